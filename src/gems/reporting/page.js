"use strict";
// What an answer rests on, shown beside it; and pictures, enlarged. The page is whole without either.
{
  const bubble = document.getElementById("bubble");
  const cells = [...document.querySelectorAll(".cell")];
  const rows = [...document.querySelectorAll(".matrix tbody tr")].map((row) => [...row.querySelectorAll(".cell")]);
  let told = null;

  const hide = () => {
    bubble.hidden = true;
    told = null;
  };
  const tell = (cell) => {
    const [head, body, foot] = bubble.children;
    head.textContent = cell.dataset.head;
    body.textContent = cell.dataset.body;
    foot.textContent = cell.dataset.foot && `answered by: ${cell.dataset.foot}`;
    bubble.hidden = false;
    told = cell;
    const at = cell.getBoundingClientRect();
    const size = bubble.getBoundingClientRect();
    const below = at.bottom + size.height + 16 < innerHeight;
    const left = Math.min(Math.max(12, at.left + at.width / 2 - size.width / 2), document.documentElement.clientWidth - size.width - 12);
    bubble.style.left = `${Math.max(12, left)}px`;
    bubble.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)}px`;
  };
  // One stop for the Tab key, arrow keys within: a run may have a thousand answers.
  const stop = (cell) => cells.forEach((other) => (other.tabIndex = other === cell ? 0 : -1));
  if (cells.length) stop(cells[0]);
  for (const cell of cells) {
    cell.addEventListener("pointerenter", () => tell(cell));
    cell.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    cell.addEventListener("focus", () => { stop(cell); tell(cell); });
    cell.addEventListener("blur", hide);
    cell.addEventListener("click", () => tell(cell));
  }
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    const y = rows.findIndex((row) => row.includes(document.activeElement));
    if (y < 0 || !steps[event.key]) return;
    const [down, right] = steps[event.key];
    const next = rows[y + down]?.[rows[y].indexOf(document.activeElement) + right];
    event.preventDefault();
    next?.focus();
  });
  document.addEventListener("pointerdown", (event) => event.target.closest(".cell") || hide());
  addEventListener("scroll", () => told && tell(told), { capture: true, passive: true });

  const box = document.getElementById("box");
  const large = box.querySelector("img");
  for (const zoom of document.querySelectorAll(".zoom")) {
    zoom.addEventListener("click", () => {
      const small = zoom.querySelector("img");
      large.src = small.src;
      large.alt = small.alt;
      box.showModal();
    });
  }
  box.addEventListener("click", (event) => event.target === box && box.close());
}
