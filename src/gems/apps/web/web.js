// Chooses rounds, shows boxes and zooms. The page's HTML is replaced while a run goes on, so what the user
// chose, opened and focused is put back.
(() => {
  const all = (what) => [...document.querySelectorAll(what)];
  const opened = new Set();
  let article = null, run = "", chosen = "", focused = "";

  const show = (number) => {
    const rounds = all(".g-round");
    if (!rounds.some((round) => round.dataset.round === number)) return;
    for (const round of rounds) round.hidden = round.dataset.round !== number;
    for (const link of all("[data-show]")) {
      if (link.dataset.show === number) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const choose = (link) => {
    chosen = link.dataset.show;
    const here = new URL(location.href);
    here.searchParams.set("round", chosen);
    history.replaceState(null, "", here);
    show(chosen);
    link.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const point = (event) => {
    for (const box of all(".g-box")) box.hidden = true;
    const item = event.target.closest?.("[data-box]");
    const box = item?.closest(".g-round").querySelector(".g-box");
    if (!box) return;
    const [left, top, right, bottom] = item.dataset.box.split(" ").map((side) => side / 10);
    Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    box.hidden = false;
    if (event.type === "click") box.parentElement.scrollIntoView({ block: "nearest" });
  };
  const restore = () => {
    const found = document.querySelector(".g-run");
    if (!found || found === article) return;
    article = found;
    if (found.dataset.run !== run) [run, chosen] = [found.dataset.run, found.dataset.picked || ""];
    show(chosen);
    for (const part of all("details[data-keep]")) part.open = opened.has(part.dataset.keep);
    if (focused && document.activeElement === document.body) document.querySelector(focused)?.focus({ preventScroll: true });
  };

  const viewer = document.createElement("dialog");
  viewer.className = "gems g-viewer";
  viewer.setAttribute("aria-label", "Image");
  viewer.innerHTML = `<div class="g-screen"><div class="g-tools"><button type="button" data-zoom="1.25">Zoom in</button>
    <button type="button" data-zoom="0.8">Zoom out</button><button type="button" data-zoom="0">Fit</button>
    <button type="button" data-full>Full screen</button><button type="button" data-close>Close</button></div>
    <div class="g-view" tabindex="0" role="group" aria-label="Enlarged image"><img alt=""></div></div>`;
  const [view, image] = [viewer.querySelector(".g-view"), viewer.querySelector("img")];
  let scale = 1;
  const zoom = (factor) => {
    scale = factor ? Math.min(8, Math.max(1, scale * factor)) : 1;
    image.style.width = image.style.height = `${scale * 100}%`;
  };
  const look = (button) => {
    image.src = button.dataset.image;
    image.alt = button.querySelector("img").alt;
    zoom(0);
    // Within what Gradio colours light or dark.
    document.body.append(viewer);
    viewer.showModal();
    view.focus();
  };
  viewer.addEventListener("click", (event) => {
    const { zoom: factor, full, close } = event.target.dataset;
    if (factor !== undefined) zoom(Number(factor));
    if (event.target === image) zoom(scale > 1 ? 0 : 2);
    // Browsers have no dialog itself fill the screen.
    if (full !== undefined) document.fullscreenElement ? document.exitFullscreen() : viewer.firstChild.requestFullscreen();
    if (close !== undefined) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    const factor = { "+": 1.25, "-": 0.8, 0: 0 }[event.key];
    if (factor !== undefined) zoom(factor);
  });

  document.addEventListener("click", (event) => {
    const part = event.target.closest?.("summary")?.parentElement;
    // Noted before it opens: its HTML may be replaced before it says so.
    if (part?.dataset.keep) opened[part.open ? "delete" : "add"](part.dataset.keep);
    const target = event.target.closest?.("[data-show], .g-zoom, [data-box] button");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (target.dataset.show) [event.preventDefault(), choose(target)];
    else if (target.dataset.image) look(target);
    else point(event);
  });
  document.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const links = all("[data-show]"), at = links.indexOf(document.activeElement);
    if (!step || at < 0 || !links[at + step]) return;
    event.preventDefault();
    links[at + step].focus();
    choose(links[at + step]);
  });
  document.addEventListener("pointerover", point);
  document.addEventListener("focusin", (event) => {
    point(event);
    const { show: number, keep } = event.target.closest?.("[data-show], [data-keep]")?.dataset ?? {};
    focused = number ? `[data-show="${number}"]` : keep ? `.g-round:not([hidden]) [data-keep="${keep}"] > summary` : "";
  });
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(restore).observe(document.body, { childList: true, subtree: true });
    restore();
  });
})();
