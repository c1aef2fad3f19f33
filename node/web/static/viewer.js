// The slices of a job: pixels come in HU, so the window and the contours change without a request.
"use strict";

(() => {
  const root = document.getElementById("viewer");
  const part = (name) => document.getElementById(`viewer-${name}`);
  const base = root.dataset.slices;
  const stage = part("stage");
  const canvas = part("canvas");
  const paper = canvas.getContext("2d");
  const LIVER = 1;
  const LESION = 2;
  const COLORS = { [LIVER]: [72, 214, 138], [LESION]: [255, 106, 61] };
  const KEPT = 160; // slices; 512 x 512 of them are 120 MB
  const AHEAD = 24;
  const BEHIND = 8;
  const SHARE_OF_WINDOW = 0.72;

  let list = null; // what the node says of the slices
  let place = 0; // of the slice that is wanted, in the order of reading
  let shown = null; // the slice on the screen, and its pixels
  let direction = 1;
  let turn = 0; // counts what was wanted, so that what comes late is dropped
  const kept = new Map();

  async function fetchJson(path) {
    const answer = await fetch(path, { headers: { Accept: "application/json", ...live } });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(await reason(answer));
    return answer.json();
  }

  async function fetchPixels(path, type, headers) {
    const answer = await fetch(path, { headers: { Accept: "application/json, */*", ...headers } });
    if (!answer.ok) throw new Error(await reason(answer));
    return new type(await answer.arrayBuffer());
  }

  async function reason(answer) {
    try {
      return (await answer.json()).detail;
    } catch {
      return `The node answered ${answer.status}.`;
    }
  }

  // A slice with its pixels; asked for once, and kept while there is room.
  function load(index, headers = {}) {
    let wanted = kept.get(index);
    kept.delete(index);
    if (!wanted) {
      const labels = list.has_overlay
        ? fetchPixels(`${base}/${index}/labels`, Uint8Array, headers).catch((error) => error)
        : null;
      wanted = Promise.all([fetchPixels(`${base}/${index}/hu`, Int16Array, headers), labels]);
      wanted.catch(() => kept.delete(index));
      if (kept.size >= KEPT) kept.delete(kept.keys().next().value);
    }
    kept.set(index, wanted);
    return wanted;
  }

  async function show(next) {
    if (!list || !list.slices.length) return;
    const last = list.slices.length - 1;
    next = Math.min(Math.max(next, 0), last);
    if (next !== place) direction = Math.sign(next - place);
    place = next;
    part("slice").value = place;
    const mine = ++turn;
    const one = list.slices[place];
    try {
      const [hu, found] = await load(one.index);
      if (mine !== turn) return;
      // No contour may be missing in silence.
      const isMissing = found instanceof Error;
      if (isMissing) kept.delete(one.index);
      shown = { one, hu, labels: isMissing ? null : found, place };
      tell(isMissing ? [`The contours of this slice cannot be shown: ${found.message}`] : list.notes);
      draw();
      prefetch(mine);
    } catch (error) {
      if (mine === turn) {
        shown = null;
        paper.clearRect(0, 0, canvas.width, canvas.height);
        part("place").textContent = "";
        tell([`Slice ${place + 1}: ${error.message}`]);
      }
    }
  }

  async function prefetch(mine) {
    const around = [];
    for (let step = 1; step <= AHEAD; step++) {
      around.push(place + direction * step);
      if (step <= BEHIND) around.push(place - direction * step);
    }
    for (const next of around) {
      if (mine !== turn || document.hidden) return;
      const one = list.slices[next];
      if (one && !kept.has(one.index)) await load(one.index, live).catch(() => null);
    }
  }

  function tell(sentences) {
    part("note").textContent = sentences.join(" ");
  }

  // ---------------------------------------------------------------- drawing

  const gray = document.createElement("canvas");
  const fill = document.createElement("canvas");

  function isOn(value) {
    return part("shown").checked && part(value === LIVER ? "liver" : "lesion").checked;
  }

  function fit(one) {
    // Pixels are as large as they are in the patient.
    const [rows, columns] = one.shape;
    const aspect = (columns * one.spacing_mm[1]) / (rows * one.spacing_mm[0]);
    const room = stage.clientWidth;
    const width = Math.max(1, Math.min(room, window.innerHeight * SHARE_OF_WINDOW * aspect));
    const height = width / aspect;
    const sharp = window.devicePixelRatio || 1;
    resize(canvas, Math.round(width * sharp), Math.round(height * sharp));
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }

  let isDue = false;

  function draw() {
    // Once a frame of the screen, however often it is asked for.
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (shown) paint();
    });
  }

  function paint() {
    const { one, hu, labels } = shown;
    const [rows, columns] = one.shape;
    fit(one);
    drawGray(hu, columns, rows);
    paper.imageSmoothingEnabled = true;
    paper.drawImage(gray, 0, 0, canvas.width, canvas.height);
    const scale = [canvas.width / columns, canvas.height / rows];
    if (labels) drawLabels(labels, columns, rows, scale);
    if (part("diameters").checked && isOn(LESION)) drawDiameters(one.index, scale);
    describe(one);
  }

  function resize(sheet, width, height) {
    // To set it, even to what it is, makes it anew.
    if (sheet.width !== width) sheet.width = width;
    if (sheet.height !== height) sheet.height = height;
  }

  function drawGray(hu, columns, rows) {
    const level = Number(part("level").value);
    const width = Math.max(1, Number(part("width").value));
    const picture = new ImageData(columns, rows);
    const pixels = new Uint32Array(picture.data.buffer);
    const slope = 255 / width;
    const offset = 127.5 - level * slope;
    for (let at = 0; at < hu.length; at++) {
      const value = Math.min(255, Math.max(0, hu[at] * slope + offset)) | 0;
      pixels[at] = 0xff000000 | (value << 16) | (value << 8) | value;
    }
    resize(gray, columns, rows);
    gray.getContext("2d").putImageData(picture, 0, 0);
  }

  function drawLabels(labels, columns, rows, scale) {
    paper.globalAlpha = Number(part("opacity").value) / 100;
    if (part("form").value === "filled") {
      drawFilled(labels, columns, rows);
    } else {
      // The contour of the liver runs around its lesions too, as in the other pictures.
      for (const value of [LIVER, LESION]) {
        if (isOn(value)) drawOutline(labels, value, columns, rows, scale);
      }
    }
    paper.globalAlpha = 1;
  }

  function drawFilled(labels, columns, rows) {
    const picture = new ImageData(columns, rows);
    for (let at = 0; at < labels.length; at++) {
      const value = labels[at];
      if (value && isOn(value)) picture.data.set([...COLORS[value], 255], 4 * at);
    }
    resize(fill, columns, rows);
    fill.getContext("2d").putImageData(picture, 0, 0);
    paper.imageSmoothingEnabled = false;
    paper.drawImage(fill, 0, 0, canvas.width, canvas.height);
  }

  function drawOutline(labels, value, columns, rows, [across, down]) {
    const path = new Path2D();
    for (const [row, from, to] of borders(labels, value, columns, rows, columns, 1)) {
      path.moveTo(from * across, row * down);
      path.lineTo(to * across, row * down);
    }
    for (const [column, from, to] of borders(labels, value, rows, columns, 1, columns)) {
      path.moveTo(column * across, from * down);
      path.lineTo(column * across, to * down);
    }
    paper.strokeStyle = `rgb(${COLORS[value].join(" ")})`;
    paper.lineWidth = 1.5 * (window.devicePixelRatio || 1);
    paper.lineCap = "square";
    paper.stroke(path);
  }

  // Straight pieces along the borders of pixels, so that they say exactly which of them belong to
  // it: what has this label or a greater one. Lines are rows or columns, as the strides have it.
  function borders(labels, value, length, count, stride, step) {
    const pieces = [];
    for (let line = 0; line <= count; line++) {
      let from = -1;
      for (let along = 0; along <= length; along++) {
        const at = line * stride + along * step;
        const isBorder = along < length
          && (line < count && labels[at] >= value) !== (line > 0 && labels[at - stride] >= value);
        if (isBorder && from < 0) from = along;
        if (!isBorder && from >= 0) {
          pieces.push([line, from, along]);
          from = -1;
        }
      }
    }
    return pieces;
  }

  function drawDiameters(index, [across, down]) {
    const sharp = window.devicePixelRatio || 1;
    paper.strokeStyle = paper.fillStyle = "#fff";
    paper.lineWidth = sharp;
    paper.font = `600 ${13 * sharp}px system-ui, sans-serif`;
    for (const lesion of list.lesions) {
      for (const axis of [lesion.long_axis, lesion.short_axis]) {
        if (!axis || axis.slice_index !== index) continue;
        const [from, to] = [axis.start, axis.end].map(([row, column]) => [
          (column + 0.5) * across,
          (row + 0.5) * down,
        ]);
        paper.beginPath();
        paper.moveTo(...from);
        paper.lineTo(...to);
        paper.stroke();
        if (axis === lesion.long_axis) {
          const right = Math.max(from[0], to[0]) + 6 * sharp;
          const upper = Math.min(from[1], to[1]);
          paper.fillText(`${lesion.number}: ${axis.length_mm.toFixed(1)} mm`, right, upper);
        }
      }
    }
  }

  function name(one) {
    return one.number === null ? `Slice ${one.index + 1}` : `Image ${one.number}`;
  }

  function describe(one) {
    const [axis] = list.axis;
    const where = `${axis} ${one.position_mm.toFixed(1)} mm`;
    const text = `${name(one)} (${shown.place + 1} of ${list.slices.length})`;
    part("place").textContent = `${text}\n${where}\nL ${part("level").value} W ${part("width").value}`;
    part("slice").setAttribute("aria-valuetext", `${text}, ${where}`);
    const [left, right, top, bottom] = one.edges;
    for (const [side, letters] of Object.entries({ left, right, top, bottom })) {
      part(side).textContent = letters;
    }
  }

  // ---------------------------------------------------------------- what people do

  function setWindow(level, width) {
    part("level").value = Math.round(Math.min(3071, Math.max(-1024, level)));
    part("width").value = Math.round(Math.min(4096, Math.max(1, width)));
    nameWindow();
    draw();
  }

  function nameWindow() {
    const own = `${part("level").value} ${part("width").value}`;
    const options = [...part("preset").options];
    part("preset").value = options.some((one) => one.value === own) ? own : "";
  }

  function choosePreset(value) {
    if (value) setWindow(...value.split(" ").map(Number));
  }

  const steps = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
  const bends = { ArrowUp: [10, 0], ArrowDown: [-10, 0], ArrowLeft: [0, -20], ArrowRight: [0, 20] };

  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const bend = event.shiftKey && bends[event.key];
    if (bend) setWindow(Number(part("level").value) + bend[0], Number(part("width").value) + bend[1]);
    else if (event.key in steps) show(place + steps[event.key]);
    else if (event.key.toLowerCase() === "o") part("shown").click();
    else if ("12345".includes(event.key)) choosePreset(part("preset").options[event.key - 1].value);
    else return;
    event.preventDefault();
  });

  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaMode === 0 ? event.deltaY : event.deltaY * 40;
    const notches = Math.trunc(turned / 40);
    if (!notches) return;
    turned -= notches * 40;
    show(place + Math.sign(notches) * Math.min(Math.abs(notches), Math.abs(event.deltaY) >= 100 ? 1 : 3));
    if (Math.abs(event.deltaY) >= 100) turned = 0;
  }, { passive: false });

  let held = null; // where a drag began
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    held = { x: event.clientX, y: event.clientY, place, level: Number(part("level").value), width: Number(part("width").value) };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!held) return sample(event);
    const [x, y] = [event.clientX - held.x, event.clientY - held.y];
    if (event.pointerType === "touch") {
      const perSlice = Math.max(4, (canvas.clientHeight / list.slices.length) * 1.5);
      const next = held.place + Math.round(y / perSlice);
      if (next !== place) show(next);
    } else if (Math.abs(x) + Math.abs(y) > 3) {
      setWindow(held.level - y, held.width + 2 * x);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });
  stage.addEventListener("pointerleave", () => { part("hu").textContent = ""; });

  function sample(event) {
    if (!shown) return;
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = shown.one.shape;
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const isIn = column >= 0 && row >= 0 && column < columns && row < rows;
    part("hu").textContent = isIn ? `${shown.hu[row * columns + column]} HU` : "";
  }

  part("slice").addEventListener("input", () => show(Number(part("slice").value)));
  part("preset").addEventListener("change", () => choosePreset(part("preset").value));
  for (const box of ["level", "width"]) {
    part(box).addEventListener("input", () => { nameWindow(); draw(); });
  }
  for (const box of ["shown", "liver", "lesion", "diameters", "form", "opacity"]) {
    part(box).addEventListener("input", draw);
  }
  part("form").addEventListener("input", () => {
    part("opacity").value = part("form").value === "filled" ? 40 : 100;
    draw();
  });
  new ResizeObserver(draw).observe(stage);

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-slice]");
    if (!button || !list) return;
    show(placeOf(Number(button.dataset.slice)));
    stage.focus({ preventScroll: true });
    root.scrollIntoView({ block: "nearest" });
  });

  function placeOf(index) {
    return list.slices.findIndex((one) => one.index === index);
  }

  // ---------------------------------------------------------------- the job goes on

  function nameButtons() {
    for (const button of document.querySelectorAll("button[data-slice]")) {
      const one = list?.lesions.length ? list.slices[placeOf(Number(button.dataset.slice))] : null;
      button.disabled = !one;
      button.textContent = one ? name(one) : "Show";
    }
  }

  async function open() {
    const [before, old] = [shown?.one.index, list];
    if (!list) tell(["Reading the series ..."]);
    try {
      list = await fetchJson(base);
    } catch (error) {
      return tell([error.message]);
    }
    const count = list.slices.length;
    tell(list.notes);
    stage.hidden = part("controls").hidden = count === 0;
    part("overlay").disabled = !list.has_overlay;
    part("notice").hidden = !list.has_overlay;
    part("slice").max = Math.max(0, count - 1);
    if (old?.has_overlay !== list.has_overlay || old.slices.length !== count) kept.clear();
    nameButtons();
    const first = before ?? list.lesions[0]?.long_axis.slice_index;
    const found = first === undefined ? -1 : placeOf(first);
    show(found < 0 ? Math.floor(count / 2) : found);
  }

  function changed() {
    return document.getElementById("job-title")?.dataset.changed;
  }

  let known = changed();
  new MutationObserver(() => {
    if (changed() !== known) {
      known = changed();
      open();
    }
  }).observe(document.getElementById("job-head"), { childList: true });
  new MutationObserver(nameButtons).observe(document.getElementById("job-found"), { childList: true });
  open();
})();
