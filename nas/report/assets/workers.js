// Who worked when: a lane for each worker, a bar for each candidate.

const NAMED_LANES = 24;
const TIME_UNITS = [
  [86400, "days"],
  [3600, "hours"],
  [60, "minutes"],
  [1, "seconds"],
];

function workersPart(workers) {
  if (!workers.lanes.length) return null;
  const host = h("div", { class: "figure" });
  drawn(host, (width) => host.replaceChildren(lanes(workers, width)));
  const failed = workers.lanes.some((lane) => lane.failed.some((count) => count));
  const joined = workers.lanes.some((lane) => lane.counts.some((count) => count > 1));
  return h(
    "div",
    null,
    h("h3", null, "Workers"),
    host,
    legend(
      [
        [swatch(s("rect", { class: "work", x: -10, y: -5, width: 20, height: 10 })), "on a candidate"],
        failed
          ? [swatch(s("rect", { class: "work lost", x: -10, y: -5, width: 20, height: 10 })), "without result"]
          : null,
      ].filter(Boolean),
    ),
    note(
      joined ? "Each bar is a candidate, or several that follow closely" : "Each bar is a candidate",
      ", in the lane of the process that worked on it; gaps are time without one. ",
      workers.left_out
        ? `${plural(workers.left_out, "further worker")} with fewer candidates ${workers.left_out === 1 ? "is" : "are"} not drawn.`
        : "",
    ),
  );
}

function lanes(workers, width) {
  const count = workers.lanes.length;
  const named = count <= NAMED_LANES && width > 560;
  const pitch = Math.max(7, Math.min(20, 420 / count));
  const [unit, unitName] = TIME_UNITS.find(([length]) => workers.seconds >= 2 * length) || [1, "seconds"];
  const plot = frame({
    width,
    height: Math.round(count * pitch) + 58,
    left: named ? 190 : 34,
    right: named ? 64 : 28,
    x: {
      domain: [0, (workers.seconds * 1.002) / unit || 1],
      label: `${unitName} since the first candidate began`,
      format: threeDigits,
    },
    y: { domain: [count, 0], label: named ? "" : plural(count, "worker"), format: () => "" },
    label: `What ${plural(count, "worker")} did when. Arrow keys walk along the bars.`,
  });
  const cards = new Map();
  workers.lanes.forEach((lane, place) => {
    const top = plot.y(place) + 0.15 * pitch;
    if (named) plot.over.append(...laneLabels(lane, plot, top + 0.35 * pitch + 4));
    lane.starts.forEach((start, index) => {
      const [from, to] = [plot.x(start / unit), plot.x(lane.ends[index] / unit)];
      // A hair between neighbours tells them apart.
      const outline = { x: from, y: top, width: Math.max(0.7, to - from - 0.6), height: 0.7 * pitch };
      const box = s("rect", { class: "work", ...outline });
      cards.set(box, { card: () => spellCard(lane, index) });
      plot.marks.append(box);
      if (lane.failed[index]) plot.marks.append(lost(lane.failed[index] / lane.counts[index], outline));
    });
  });
  plot.svg.setAttribute("tabindex", "0");
  pointed(plot.svg, cards, [...cards.keys()]);
  return plot.svg;
}

/** The share of a bar that gave no result, large enough to be seen. */
function lost(share, { x, y, width, height }) {
  const part = height * Math.max(0.3, share);
  return s("rect", { class: "work lost", x, y: y + height - part, width, height: part });
}

function laneLabels(lane, plot, y) {
  const name = lane.worker.length > 25 ? `…${lane.worker.slice(-24)}` : lane.worker;
  return [
    s("text", { x: plot.box.left - 8, y, "text-anchor": "end" }, name),
    s("text", { x: plot.box.right + 8, y }, percent(lane.share, 0)),
  ];
}

function spellCard(lane, index) {
  return h(
    "div",
    null,
    h("strong", null, lane.worker),
    facts([
      ["after", duration(lane.starts[index])],
      ["for", duration(lane.ends[index] - lane.starts[index])],
      ["candidates", integer(lane.counts[index])],
      ["without result", lane.failed[index] ? integer(lane.failed[index]) : null],
      ["worker busy", percent(lane.share, 0)],
    ]),
  );
}
