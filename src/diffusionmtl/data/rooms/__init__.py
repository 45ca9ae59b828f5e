"""The embedded data set: furnished rooms, drawn analytically with every dense label."""

from diffusionmtl.data.rooms.parts import PART_CLASSES, SEMSEG_CLASSES
from diffusionmtl.data.rooms.render import Room, draw_room, draw_rooms

__all__ = ["PART_CLASSES", "SEMSEG_CLASSES", "Room", "draw_room", "draw_rooms"]
