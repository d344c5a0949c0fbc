// Plots: scales, ticks, frames, and finding the mark next to the pointer or by arrow keys.

/** Maps [low, high] onto [from, to], linearly or by logarithm. */
function scale(domain, range, log = false) {
  const [low, high] = log ? domain.map(Math.log10) : domain;
  const factor = (range[1] - range[0]) / (high - low || 1);
  const map = (value) => range[0] + ((log ? Math.log10(value) : value) - low) * factor;
  return Object.assign(map, {
    domain,
    range,
    log,
    ticks: (count) => (log ? logTicks(domain, count) : linearTicks(domain, count)),
  });
}

function linearTicks([low, high], count = 6) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) || 10);
  const ticks = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9 && ticks.length < 50; place += 1) {
    ticks.push(Number((place * step).toPrecision(12)));
  }
  return ticks;
}

function logTicks([low, high], count = 6) {
  const decades = Math.log10(high / low);
  if (decades < 0.6) return linearTicks([low, high], count);
  const factors = decades < 1.3 ? [1, 1.5, 2, 3, 4, 5, 7] : decades < 2.6 ? [1, 2, 5] : [1];
  const stride = Math.max(1, Math.ceil(decades / (count + 2)));
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += stride) {
    factors.forEach((factor) => ticks.push(Number((factor * 10 ** power).toPrecision(6))));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/** The range of `values` with some air; by logarithm the air is a factor. */
function padded(values, { log = false, air = 0.06 } = {}) {
  const known = values.filter((value) => isNumber(value) && (!log || value > 0));
  if (!known.length) return log ? [0.1, 1] : [0, 1];
  const low = known.reduce((a, b) => Math.min(a, b));
  const high = known.reduce((a, b) => Math.max(a, b));
  if (log) {
    const factor = Math.max((high / low) ** air, 1.04);
    return [low / factor, high * factor];
  }
  const space = (high - low) * air || Math.abs(high) * 0.05 || 1;
  return [low - space, high + space];
}

/** Writes ticks of shares with as many digits as tell neighbours apart. */
const shareTicks =
  ([low, high]) =>
  (value) =>
    percent(value, high - low < 0.008 ? 2 : high - low < 0.075 ? 1 : 0);

let frames = 0;

/**
 * An empty plot: axes, grid and layers, `marks` being clipped to the frame.
 * x and y: {domain, log, label, format}; gives {svg, marks, over, x, y, box}.
 */
function frame({ width, height, x, y, label, left = 70, bottom = 46, top = 12, right = 28 }) {
  const box = { left, top, right: width - right, bottom: height - bottom };
  const sx = scale(x.domain, [box.left, box.right], x.log);
  const sy = scale(y.domain, [box.bottom, box.top], y.log);
  frames += 1;
  const clip = `clip${frames}`;
  const marks = s("g", { "clip-path": `url(#${clip})` });
  const over = s("g");
  const svg = s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, class: "plot", role: "group", "aria-label": label },
    s(
      "defs",
      null,
      s(
        "clipPath",
        { id: clip },
        s("rect", {
          x: box.left - 1,
          y: box.top - 1,
          width: box.right - box.left + 2,
          height: box.bottom - box.top + 2,
        }),
      ),
    ),
    axis(sx, x, box, "x", Math.max(3, Math.floor((box.right - box.left) / 90))),
    axis(sy, y, box, "y", Math.max(3, Math.floor((box.bottom - box.top) / 38))),
    marks,
    over,
  );
  return { svg, marks, over, x: sx, y: sy, box };
}

function axis(map, { label, format }, box, side, count) {
  const across = side === "x";
  const tick = (value) => {
    const place = map(value);
    return across
      ? [
          s("line", { class: "rule", x1: place, x2: place, y1: box.top, y2: box.bottom }),
          s("text", { class: "tick", x: place, y: box.bottom + 17, "text-anchor": "middle" }, format(value)),
        ]
      : [
          s("line", { class: "rule", x1: box.left, x2: box.right, y1: place, y2: place }),
          s("text", { class: "tick", x: box.left - 8, y: place + 4, "text-anchor": "end" }, format(value)),
        ];
  };
  const line = across
    ? { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }
    : { x1: box.left, x2: box.left, y1: box.top, y2: box.bottom };
  const [midX, midY] = [(box.left + box.right) / 2, (box.top + box.bottom) / 2];
  const title = across
    ? s("text", { class: "axis-title", x: midX, y: box.bottom + 38, "text-anchor": "middle" }, label)
    : s(
        "text",
        { class: "axis-title", transform: `translate(14 ${midY}) rotate(-90)`, "text-anchor": "middle" },
        label,
      );
  return s(
    "g",
    { class: `axis ${side}` },
    thinned(map.ticks(count), map, across ? 58 : 22).map(tick),
    s("line", { class: "axis-line", ...line }),
    title,
  );
}

/** Ticks whose labels would run into each other are left out. */
function thinned(ticks, map, room) {
  const kept = [];
  ticks.forEach((value) => {
    if (!kept.length || Math.abs(map(value) - map(kept[kept.length - 1])) >= room) kept.push(value);
  });
  return kept;
}

const SHAPES = {
  circle: (r) => `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`,
  diamond: (r) => `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0Z`,
  square: (r) => `M${-r} ${-r}H${r}V${r}H${-r}Z`,
  triangle: (r) => `M0 ${-1.3 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`,
  cross: (r) => `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}`,
};

/** A mark at a place in pixels. */
const mark = (shape, x, y, r, attributes) =>
  s("path", { d: SHAPES[shape](r), transform: `translate(${x} ${y})`, ...attributes });

/** Many round dots as one element: `places` are pixels. */
const dots = (places, className) =>
  s("path", { class: className, d: places.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("") });

/** A line through places in pixels; with `step` it keeps its height until the next place. */
function path(places, { step = false } = {}) {
  return places
    .map(([x, y], place) => {
      if (!place) return `M${x.toFixed(1)} ${y.toFixed(1)}`;
      return step ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    })
    .join("");
}

/**
 * Makes a plot answer to pointer and keys. targets: {x, y, card, select?, rank?} in pixels of the plot; those with a
 * higher rank win near the pointer. Arrow keys walk through the targets of the highest rank from left to right.
 */
function interactive(plot, targets) {
  const ring = s("circle", { class: "ring", r: 9, visibility: "hidden" });
  plot.over.append(ring);
  const best = Math.max(0, ...targets.map((target) => target.rank || 0));
  const walk = targets.filter((target) => (target.rank || 0) === best).sort((a, b) => a.x - b.x);
  let current = null;
  const show = (target) => {
    current = target;
    if (!target) {
      card.hide();
      ring.setAttribute("visibility", "hidden");
      return;
    }
    const outline = plot.svg.getBoundingClientRect();
    const zoom = outline.width / plot.svg.viewBox.baseVal.width;
    ring.setAttribute("cx", target.x);
    ring.setAttribute("cy", target.y);
    ring.setAttribute("visibility", "visible");
    card.show(target.card(), outline.left + target.x * zoom, outline.top + target.y * zoom);
  };
  plot.svg.addEventListener("pointermove", (event) => {
    const outline = plot.svg.getBoundingClientRect();
    const zoom = outline.width / plot.svg.viewBox.baseVal.width;
    const found = nearest(targets, (event.clientX - outline.left) / zoom, (event.clientY - outline.top) / zoom);
    if (found !== current) show(found);
  });
  plot.svg.addEventListener("pointerleave", () => show(null));
  plot.svg.addEventListener("blur", () => show(null));
  plot.svg.addEventListener("click", () => current && current.select && current.select());
  if (!walk.length) return;
  plot.svg.setAttribute("tabindex", "0");
  plot.svg.addEventListener("keydown", (event) => {
    const turn = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (turn) {
      const place = walk.indexOf(current);
      show(walk[(place + turn + walk.length) % walk.length] || walk[0]);
      event.preventDefault();
    } else if (event.key === "Enter" && current && current.select) current.select();
    else if (event.key === "Escape") show(null);
  });
}

function nearest(targets, x, y) {
  let [found, least] = [null, 26];
  targets.forEach((target) => {
    const distance = Math.hypot(target.x - x, target.y - y) - 8 * (target.rank || 0);
    if (distance < least && distance + 8 * (target.rank || 0) < 26) [found, least] = [target, distance];
  });
  return found;
}

/** Cards for pointer and keys. `cards`: element -> {card, select?}; `walk`: the elements that arrow keys go through. */
function pointed(svg, cards, walk) {
  let lit = null;
  const show = (node, x, y) => {
    if (lit) lit.classList.remove("lit");
    lit = node;
    if (!node) {
      card.hide();
      return;
    }
    node.classList.add("lit");
    card.show(cards.get(node).card(), x, y);
  };
  svg.addEventListener("pointermove", (event) => {
    if (cards.has(event.target)) show(event.target, event.clientX, event.clientY + 30);
    else show(null);
  });
  svg.addEventListener("pointerleave", () => show(null));
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("click", () => lit && cards.get(lit).select && cards.get(lit).select());
  svg.addEventListener("keydown", (event) => {
    const turn = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (turn) {
      const next = walk[(walk.indexOf(lit) + turn + walk.length) % walk.length];
      const box = next.getBoundingClientRect();
      show(next, box.x + box.width / 2, box.bottom);
      event.preventDefault();
    } else if (event.key === "Enter" && lit && cards.get(lit).select) cards.get(lit).select();
    else if (event.key === "Escape") show(null);
  });
}

/** The key to a plot: [node, text] pairs. */
const legend = (entries) =>
  h(
    "ul",
    { class: "legend" },
    entries.map(([node, text]) => h("li", null, node, h("span", null, text))),
  );
const swatch = (...children) =>
  s("svg", { class: "swatch", viewBox: "-10 -8 20 16", width: 20, height: 16, "aria-hidden": "true" }, ...children);
