// Moves what an answer shows: the line, the step, the uncertainty on top, and what is said of the place under the pointer.
// Everything it needs came with the answer.
(() => {
  const decoded = new WeakMap();

  function maps(root) {
    if (!decoded.has(root)) {
      const said = JSON.parse(root.querySelector(".dm-data")?.textContent || "{}");
      for (const task of Object.values(said)) {
        for (const map of [...task.after, ...(task.before || []), task.spread]) {
          if (map) map.values = unpacked(map.data);
        }
      }
      decoded.set(root, said);
    }
    return decoded.get(root);
  }

  function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true));
  }

  function valueAt(task, map, x, y) {
    const column = Math.min(task.width - 1, Math.floor(x * task.width));
    const row = Math.min(task.height - 1, Math.floor(y * task.height));
    return map.low + ((map.high - map.low) * map.values[row * task.width + column]) / 65535;
  }

  function told(task, found, x, y) {
    const numbers = found.map((map) => valueAt(task, map, x, y));
    if (task.form === "names") return task.names[Math.round(numbers[0])] ?? "?";
    if (task.form === "facing") {
      const [right, up] = numbers.map(Math.round);
      return `${Math.abs(right)}° ${right < 0 ? "left" : "right"}, ${Math.abs(up)}° ${up < 0 ? "down" : "up"}`;
    }
    return withUnit(numbers[0].toFixed(Math.abs(numbers[0]) >= 100 ? 0 : 2), task.unit);
  }

  // Probabilities are plain numbers, and the caption says that they are.
  function withUnit(number, unit) {
    if (unit === "degrees") return `${number}°`;
    return unit.startsWith("probability") ? number : `${number} ${unit}`;
  }

  // Spreads are often far below the hundredths that a value is told in.
  function spreadText(spread) {
    if (spread === 0) return "0";
    if (spread < 0.001) return "less than 0.001";
    return spread >= 100 ? spread.toFixed(0) : spread.toPrecision(2);
  }

  function line(task, x, y) {
    const after = told(task, task.after, x, y);
    let text = after;
    if (task.spread) {
      const spread = withUnit(spreadText(valueAt(task, task.spread, x, y)), task.spreadUnit);
      const same = task.form === "number" && task.unit === task.spreadUnit;
      text += same && !spread.startsWith("less") ? ` ± ${spread}` : `, uncertainty ${spread}`;
    }
    if (task.before) {
      const before = told(task, task.before, x, y);
      if (before !== after) text += ` (initially ${before})`;
    }
    return text;
  }

  const inside = (share) => Math.min(0.9999, Math.max(0, share));

  function point(stack, event) {
    const box = stack.getBoundingClientRect();
    return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
  }

  function show(root, x, y) {
    const said = maps(root);
    places.set(root, [x, y]);
    for (const card of root.querySelectorAll(".dm-card")) {
      const task = said[card.dataset.task];
      if (task) card.querySelector(".dm-value").textContent = line(task, x, y);
      let spot = card.querySelector(".dm-spot");
      if (!spot) {
        spot = document.createElement("span");
        spot.className = "dm-spot";
        card.querySelector(".dm-stack").append(spot);
      }
      spot.style.left = `${100 * x}%`;
      spot.style.top = `${100 * y}%`;
    }
  }

  // For those who do not point: the arrow keys move the place, in steps of a fiftieth of the picture.
  const places = new WeakMap();
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  function walk(event) {
    const step = arrows[event.key];
    const root = event.target.matches?.(".dm-stack") && event.target.closest(".dm");
    if (!step || !root || !root.querySelector(".dm-data")) return;
    event.preventDefault();
    const [x, y] = places.get(root) ?? [0.5, 0.5];
    show(root, inside(x + step[0] / 50), inside(y + step[1] / 50));
  }

  function cut(root, share) {
    root.style.setProperty("--cut", `${100 * share}%`);
    const range = root.querySelector(".dm-cut");
    if (range) range.value = 100 * share;
  }

  function moved(event) {
    const stack = event.target.closest?.(".dm-stack");
    const root = stack?.closest(".dm");
    if (!root?.querySelector(".dm-data")) return;
    const [x, y] = point(stack, event);
    show(root, x, y);
    if (event.buttons & 1) cut(root, x);
  }

  document.addEventListener("pointermove", moved);
  document.addEventListener("pointerdown", moved);
  document.addEventListener("keydown", walk);
  document.addEventListener("input", (event) => {
    const root = event.target.closest?.(".dm");
    if (!root) return;
    if (event.target.matches(".dm-cut")) cut(root, event.target.value / 100);
    if (event.target.matches(".dm-doubt-strength")) root.style.setProperty("--doubt", event.target.value / 100);
    if (event.target.matches(".dm-stage")) {
      const names = JSON.parse(event.target.dataset.names);
      root.querySelector(".dm-stage-name").textContent = names[event.target.value];
      for (const picture of root.querySelectorAll(".dm-before")) {
        picture.hidden = picture.dataset.stage !== event.target.value;
      }
    }
  });
  document.addEventListener("keydown", (event) => {
    const key = { a: "accept", r: "reject", s: "skip" }[event.key];
    const button = key && document.getElementById(`dm-${key}`);
    const busy = event.target.closest?.("input, textarea, select, [contenteditable]");
    if (!button || busy || event.ctrlKey || event.metaKey || event.altKey || button.offsetParent === null) return;
    button.click();
  });
})();
