"use strict";

(function themeToggle() {
  const button = document.querySelector("[data-theme-toggle]");
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const say = () => button.setAttribute("aria-label", isDark() ? "Switch to light" : "Switch to dark");
  button.hidden = false;
  say();
  prefersDark.addEventListener("change", say);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    say();
  });
})();

// Tables: a click on a heading sorts by it, a second click the other way round; what has no value stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const original = [...body.rows];
  headings.forEach((heading, column) => {
    const numeric = heading.dataset.sort === "number";
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    heading.setAttribute("aria-sort", "none");
    const valueOf = (row) => {
      const cell = row.cells[column];
      const value = cell.dataset.value ?? cell.textContent.trim();
      return numeric ? Number(value) : value;
    };
    button.addEventListener("click", () => {
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const direction = heading.getAttribute("aria-sort") === first ? other : first;
      headings.forEach((each) => each.setAttribute("aria-sort", each === heading ? direction : "none"));
      const sign = direction === "ascending" ? 1 : -1;
      const rows = original.map((row) => [row, valueOf(row)]);
      rows.sort(([, a], [, b]) => {
        if (!numeric) return sign * a.localeCompare(b);
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return sign * (a - b);
      });
      body.append(...rows.map(([row]) => row));
    });
  });
}

// Filters: by name, by group (rows of a table), by class (cards of a gallery, those with most of it first).
for (const filter of document.querySelectorAll("[data-filter]")) {
  const target = document.getElementById(filter.dataset.filter);
  const items = [...(target.tBodies ? target.tBodies[0].rows : target.children)];
  const search = filter.querySelector("input[type=search]");
  const choice = filter.querySelector("select");
  const count = filter.querySelector("[data-count]");
  const shareOf = (item, wanted) => {
    const chip = [...item.querySelectorAll("[data-class]")].find((each) => each.dataset.class === wanted);
    return chip ? Number(chip.dataset.share) : 0;
  };
  const apply = () => {
    const words = search.value.trim().toLowerCase();
    const group = filter.querySelector("input[type=radio]:checked")?.value ?? "";
    const wanted = choice?.value ?? "";
    let shown = 0;
    for (const item of items) {
      const fits =
        item.dataset.name.toLowerCase().includes(words) &&
        (!group || item.dataset.group === group) &&
        (!wanted || shareOf(item, wanted) > 0);
      item.hidden = !fits;
      shown += fits;
      for (const chip of item.querySelectorAll("[data-class]")) {
        chip.classList.toggle("wanted", chip.dataset.class === wanted);
      }
    }
    if (choice) {
      target.append(...(wanted ? items.toSorted((a, b) => shareOf(b, wanted) - shareOf(a, wanted)) : items));
    }
    count.textContent = `${shown} of ${items.length} ${count.dataset.word}`;
  };
  filter.hidden = false;
  for (const kind of ["input", "change"]) filter.addEventListener(kind, apply);
  apply();
}

// Matrices: what the cell under the pointer or the focus says stands above the chart, and above its neighbours of the
// same size for the cell at the same place.
const matrices = [...document.querySelectorAll("[data-matrix]")].map((block) => {
  const svg = block.querySelector("svg");
  return { block, svg, columns: Number(svg.dataset.columns), cells: [...svg.querySelectorAll("[role=img]")] };
});

function showCell({ block, cells }, index) {
  block.querySelector(".shown")?.classList.remove("shown");
  cells[index].classList.add("shown");
  block.querySelector("[data-readout]").textContent = cells[index].querySelector("title").textContent;
}

for (const matrix of matrices) {
  const { block, svg, columns, cells } = matrix;
  const group = block.closest(".matrices");
  const alike = (other) => other.columns === columns && other.cells.length === cells.length;
  const inGroup = (other) => group && other.block.closest(".matrices") === group && alike(other);
  const twins = matrices.filter((other) => other === matrix || inGroup(other));
  let current = 0;
  cells[current].setAttribute("tabindex", 0);
  const show = (event) => {
    const index = cells.indexOf(event.target.closest("[role=img]"));
    if (index >= 0) twins.forEach((twin) => showCell(twin, index));
  };
  // "pointerover" would also come when the page scrolls to the cell that the keys have gone to.
  for (const kind of ["pointermove", "focusin"]) svg.addEventListener(kind, show);
  svg.addEventListener("keydown", (event) => {
    const place = current % columns;
    const steps = {
      ArrowUp: -columns, ArrowDown: columns, ArrowLeft: place ? -1 : 0, ArrowRight: place < columns - 1 ? 1 : 0,
      Home: -place, End: columns - 1 - place,
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    if (!cells[current + steps[event.key]]) return;
    cells[current].setAttribute("tabindex", -1);
    current += steps[event.key];
    cells[current].setAttribute("tabindex", 0);
    cells[current].focus();
  });
}

// Pictures over each other: at 1.3, the second picture is wiped away by the third over its first three tenths.
for (const compare of document.querySelectorAll("[data-compare]")) {
  const frames = compare.querySelector(".frames");
  const layers = [...frames.children];
  const names = layers.map((layer) => layer.querySelector("figcaption").textContent);
  const slider = compare.querySelector("input[type=range]");
  const buttons = [...compare.querySelectorAll(".stops button")];
  const draw = () => {
    const at = Number(slider.value);
    const lower = Math.min(Math.floor(at), layers.length - 1);
    const part = at - lower;
    layers.forEach((layer, index) => {
      layer.style.visibility = index === lower || (index === lower + 1 && part > 0) ? "visible" : "hidden";
      layer.style.clipPath = index === lower + 1 ? `inset(0 ${100 * (1 - part)}% 0 0)` : "none";
    });
    buttons.forEach((button, index) => button.classList.toggle("current", Math.abs(at - index) < 0.05));
    const half = `${Math.round(100 * part)} % ${names[lower + 1]?.toLowerCase()} over ${names[lower].toLowerCase()}`;
    slider.setAttribute("aria-valuetext", part > 0.01 ? half : names[lower]);
  };
  const set = (value) => {
    slider.value = value;
    draw();
  };
  // Dragging over the picture wipes between the two that the slider is between.
  const drag = (event) => {
    const box = frames.getBoundingClientRect();
    const part = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    slider.step = "any";
    set(Number(frames.dataset.from) + part);
    slider.step = "0.1";
  };
  frames.addEventListener("pointerdown", (event) => {
    frames.dataset.from = Math.min(Math.floor(Number(slider.value)), layers.length - 2);
    frames.setPointerCapture(event.pointerId);
    drag(event);
  });
  frames.addEventListener("pointermove", (event) => frames.hasPointerCapture(event.pointerId) && drag(event));
  slider.addEventListener("input", draw);
  buttons.forEach((button, index) => button.addEventListener("click", () => set(index)));
  compare.classList.add("ready");
  compare.querySelector(".slider").hidden = false;
  draw();
}
