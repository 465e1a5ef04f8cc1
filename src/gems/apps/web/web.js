// Chooses rounds, shows boxes, compares, paints masks and zooms. Gradio changes the page's HTML to what the server sends while a run goes
// on, so what the user chose, opened and focused is put back.
(() => {
  const all = (what) => [...document.querySelectorAll(what)];
  const opened = new Set();
  let run = "", chosen = "", focused = "";

  const show = (number) => {
    const rounds = all(".g-round");
    if (!rounds.some((round) => round.dataset.round === number)) return;
    const set = (element, name, wanted) => {
      if (element.hasAttribute(name) === wanted) return;
      if (wanted) element.setAttribute(name, "true"); else element.removeAttribute(name);
    };
    for (const round of rounds) set(round, "hidden", round.dataset.round !== number);
    for (const link of all("[data-show]")) set(link, "aria-current", link.dataset.show === number);
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
    if (!found) return;
    if (found.dataset.run !== run) [run, chosen] = [found.dataset.run, found.dataset.picked || ""];
    show(chosen);
    for (const part of all("details[data-keep]")) {
      const wanted = opened.has(part.dataset.keep);
      if (part.open !== wanted) part.open = wanted;
    }
    if (focused && document.activeElement === document.body) document.querySelector(focused)?.focus({ preventScroll: true });
  };

  // A mask: white strokes on a canvas over the picture.
  const painted = new WeakSet();
  const brush = { x: 0, y: 0, size: 6 };
  const stroke = (canvas, x, y, from = null) => {
    const pen = canvas.getContext("2d");
    pen.strokeStyle = pen.fillStyle = "#fff";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = canvas.width * brush.size / 50;
    pen.beginPath();
    pen.moveTo(from?.x ?? x, from?.y ?? y);
    pen.lineTo(x, y);
    pen.stroke();
    // A line without length is not drawn.
    pen.beginPath();
    pen.arc(x, y, pen.lineWidth / 2, 0, 7);
    pen.fill();
    painted.add(canvas);
  };
  const ring = (canvas) => {
    const mark = canvas.parentElement.querySelector(".g-brush");
    mark.hidden = canvas.hidden || document.activeElement !== canvas;
    mark.style.left = `${100 * brush.x / canvas.width}%`;
    mark.style.top = `${100 * brush.y / canvas.height}%`;
    mark.style.width = `${2 * brush.size}%`;
  };
  const paint = (event) => {
    const canvas = event.target;
    const from = event.type === "pointermove" ? { ...brush } : null;
    [brush.x, brush.y] = [event.offsetX * canvas.width / canvas.clientWidth, event.offsetY * canvas.height / canvas.clientHeight];
    if (event.buttons & 1) stroke(canvas, brush.x, brush.y, from);
    ring(canvas);
  };
  const paintTools = (button) => {
    const round = button.closest(".g-round"), canvas = round.querySelector(".g-paint"), pen = canvas.getContext("2d");
    if ("paint" in button.dataset) {
      canvas.hidden = !canvas.hidden;
      button.setAttribute("aria-pressed", String(!canvas.hidden));
      [brush.x, brush.y] = [canvas.width / 2, canvas.height / 2];
    } else if ("clear" in button.dataset) {
      pen.clearRect(0, 0, canvas.width, canvas.height);
      painted.delete(canvas);
    } else {
      for (const item of round.querySelectorAll("[data-box]")) {
        const [left, top, right, bottom] = item.dataset.box.split(" ").map((side) => side / 1000);
        pen.fillStyle = "#fff";
        pen.fillRect(left * canvas.width, top * canvas.height, (right - left) * canvas.width, (bottom - top) * canvas.height);
      }
      painted.add(canvas);
    }
  };
  window.gemsMask = () => {
    const canvas = document.querySelector(".g-round:not([hidden]) .g-paint:not([hidden])");
    if (!canvas || !painted.has(canvas)) return "";
    const mask = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const pen = mask.getContext("2d");
    pen.fillRect(0, 0, mask.width, mask.height);
    pen.drawImage(canvas, 0, 0);
    return mask.toDataURL("image/png");
  };
  for (const kind of ["pointerdown", "pointermove"]) {
    document.addEventListener(kind, (event) => { if (event.target.matches?.(".g-paint")) paint(event); });
  }
  document.addEventListener("input", (event) => {
    if (event.target.matches?.("[data-brush]")) brush.size = Number(event.target.value);
    if (!event.target.matches?.(".g-compare input")) return;
    event.target.closest("figure").querySelector(".g-picture").style.setProperty("--g-split", `${event.target.value}%`);
  });
  document.addEventListener("keydown", (event) => {
    const canvas = event.target;
    if (!canvas.matches?.(".g-paint")) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = { ...brush };
    brush.x = Math.min(canvas.width, Math.max(0, brush.x + step[0] * canvas.width / 50));
    brush.y = Math.min(canvas.height, Math.max(0, brush.y + step[1] * canvas.height / 50));
    if (event.shiftKey || event.key === " ") stroke(canvas, brush.x, brush.y, from);
    ring(canvas);
  });

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
    const target = event.target.closest?.("[data-show], .g-zoom, [data-box] button, .g-painting button");
    if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (target.dataset.show) [event.preventDefault(), choose(target)];
    else if (target.dataset.image) look(target);
    else if (target.closest(".g-painting")) paintTools(target);
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
    for (const canvas of all(".g-paint:not([hidden])")) ring(canvas);
    const { show: number, keep } = event.target.closest?.("[data-show], [data-keep]")?.dataset ?? {};
    focused = number ? `[data-show="${number}"]` : keep ? `.g-round:not([hidden]) [data-keep="${keep}"] > summary` : "";
  });
  // Gradio may add this script before or after the page is complete.
  const changes = { childList: true, subtree: true, attributeFilter: ["data-run", "hidden", "aria-current"] };
  new MutationObserver(restore).observe(document.documentElement, changes);
  restore();
})();
