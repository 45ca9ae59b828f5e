for (const stack of document.querySelectorAll(".stack")) {
  const range = stack.parentElement.querySelector("input");
  const before = document.getElementById(stack.dataset.before);
  if (!range || !before) continue;
  const show = () => {
    // Laid over when first asked for: a page of many pictures opens sooner.
    if (range.value > 0 && stack.children.length === 1) {
      const over = new Image();
      over.alt = "";
      over.src = before.src;
      stack.append(over);
    }
    stack.style.setProperty("--share", range.value + "%");
    stack.style.setProperty("--edge", range.value > 0 && range.value < 100 ? 1 : 0);
    range.setAttribute("aria-valuetext", range.value + " % initial");
  };
  range.addEventListener("input", show);
  range.hidden = false;
  show();
}
const choose = document.querySelector(".choose");
if (choose) {
  choose.hidden = false;
  choose.addEventListener("change", (event) => {
    const task = event.target.value;
    for (const row of document.querySelectorAll("[data-task]")) row.hidden = task !== "" && row.dataset.task !== task;
  });
}
