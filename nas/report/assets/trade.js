// What stands next to the front, and what each budget is worth.

function neighboursPart(data) {
  const heading = h("h3", null, "What is the nearest cheaper network, and what would it cost?");
  const found = data.audit.neighbours;
  if (!found || !found.pairs.length)
    return [heading, empty("No network has both a judged accuracy and a known cost, so none can be compared.")];
  const quantity = quantityOf(found.cost, data);
  return [
    heading,
    h(
      "ol",
      { class: "pairs" },
      found.pairs.map((pair) => neighbourRow(pair, quantity)),
    ),
    note(
      `Nearest: fewest choices taken differently, among ${plural(found.candidates, "network")} that were judged alike; the most accurate of equals. Both accuracies are on the validation split${found.fidelity.epochs ? ` after ${found.fidelity.epochs} epochs` : ""}, both costs ${quantity.device ? `predicted for ${quantity.device}` : "predicted"}. `,
      "Grey: a difference that the validation split does not tell apart from chance.",
    ),
  ];
}

function neighbourRow(pair, quantity) {
  const { member, neighbour } = pair;
  const network = (item) =>
    h("span", null, h("code", null, short(item.digest)), h("small", null, `${percent(item.accuracy)}, ${formatMetric(item.cost, quantity)}`));
  if (!neighbour) return h("li", null, network(member), h("span", { class: "muted none" }, "nothing cheaper was tried"));
  const told = toldApart(member, neighbour);
  const saved = `${formatMetric(member.cost - neighbour.cost, quantity)}, ${percent(1 - neighbour.cost / member.cost, 0)}`;
  return h(
    "li",
    null,
    network(member),
    h("span", { class: "arrow", "aria-label": "nearest cheaper" }, "→"),
    network(neighbour),
    h("span", null, "saves ", h("b", null, saved)),
    h("span", { class: told ? "" : "muted" }, `accuracy ${points(neighbour.accuracy - member.accuracy)}`),
    changeList(pair),
  );
}

function changeList({ changes, switched }) {
  const one = (change) =>
    h("span", { class: "change" }, `${change.name} `, h("b", null, `${change.from} → ${change.to}`));
  const few = changes.slice(0, 5).map(one);
  const more = changes.length > 5 ? h("span", { class: "muted" }, `and ${changes.length - 5} more: no close neighbour was tried`) : null;
  const implied = switched.length
    ? h("small", { title: switched.join(", ") }, `${plural(switched.length, "choice")} switched on or off with it`)
    : null;
  return h("span", { class: "changes" }, few, more, implied);
}

function relaxingPart(data) {
  const heading = h("h3", null, "What would relaxing a budget bring?");
  const found = data.audit.relaxing;
  if (!data.budgets.length) return [heading, empty("The run had no budgets, so there is nothing to relax.")];
  if (!found.some((item) => item.known))
    return [heading, empty("No network has both a judged accuracy and the figures that the budgets are on.")];
  const hosts = found.filter((item) => item.known).map((item) => [item, h("div", { class: "figure" })]);
  hosts.forEach(([item, host]) => drawn(host, (width) => drawRelaxing(host, item, data, width)));
  return [
    heading,
    h(
      "div",
      { class: "panels" },
      hosts.map(([item, host]) =>
        h("div", { class: "panel" }, h("h4", null, item.text), host, h("p", { class: "finding" }, relaxingText(item, data))),
      ),
    ),
    note(
      "The best network that the search judged, as a function of the limit, all other budgets kept; where a bound decides, the limit is held against the bound. A search hardly looks beyond its budgets, so the curve right of the line is a lower limit of what is there. Returns diminish as a rule, which makes the last step before the limit a guess at the most that the next one brings; to know, go on with a larger budget.",
    ),
  ];
}

function relaxingText(item, data) {
  const [quantity, target] = [quantityOf(item.key, data), quantityOf(item.target, data)];
  const gain = (a, b) => (item.target === "accuracy" ? points(b.value - a.value) : `${percent(b.value / a.value - 1)} ${target.label}`);
  const limit = (value) => formatMetric(value, quantity);
  if (!item.best) return `Nothing that was judged keeps it together with the others.`;
  const at = `Within ${limit(item.limit)} the best has ${formatMetric(item.best.value, target)}`;
  const unused = item.binds ? "" : `, and takes only ${limit(item.best.spent)}: this budget is not what holds the search back`;
  const told = item.tighter && (item.target !== "accuracy" || toldBy(item.tighter, item.best)) ? "" : " (not told apart from chance)";
  const tighter = !item.binds
    ? ""
    : item.tighter
    ? `The last step, from ${limit(item.steps.tighter)}, brought ${gain(item.tighter, item.best)}${item.tighter.value === item.best.value ? "" : told}. `
    : `Nothing was found within ${limit(item.steps.tighter)}. `;
  const beyond = item.looser && item.beyond
    ? `Of ${plural(item.beyond, "network")} beyond it, those up to ${limit(item.steps.looser)} bring ${gain(item.best, item.looser)}${item.best_beyond && item.best_beyond.value !== item.looser.value ? `, the best of all, at ${limit(item.best_beyond.spent)}, ${gain(item.best, item.best_beyond)}` : ""}.`
    : "Nothing beyond it was trained.";
  const judged = item.key === "accuracy" ? " Accuracies are those of the short training, which full training exceeds as a rule." : "";
  return `${at}${unused}. ${tighter}${beyond}${judged}`;
}

const toldBy = (a, b) =>
  toldApart({ accuracy: a.value, interval: a.interval }, { accuracy: b.value, interval: b.interval });

function drawRelaxing(host, item, data, width) {
  const [quantity, target] = [quantityOf(item.key, data), quantityOf(item.target, data)];
  const share = quantity.dimension === "share";
  const values = [...item.curve.limit, item.limit, item.steps.tighter, ...(item.beyond ? [item.steps.looser] : [])];
  const y = padded(item.curve.value, { air: 0.1 });
  const plot = frame({
    width,
    height: 210,
    x: {
      domain: padded(values, { log: !share, air: 0.05 }),
      log: !share,
      label: `limit of ${placed(quantity, data)}`,
      format: (value) => (share ? percent(value) : formatQuantity(value, quantity.dimension)),
    },
    y: {
      domain: y,
      label: item.target === "accuracy" ? "best accuracy" : `least ${target.label}`,
      format: target.dimension === "share" ? shareTicks(y) : (value) => formatQuantity(value, target.dimension),
    },
    label: `Best ${target.label} as a function of the limit of ${quantity.label}. Arrow keys walk along the steps.`,
  });
  const steps = item.curve.limit.map((limit, place) => [plot.x(limit), plot.y(item.curve.value[place])]);
  const end = quantity.maximize ? plot.box.left : plot.box.right;
  plot.marks.append(
    s("path", { class: "curve searched", d: path([...steps, [end, steps[steps.length - 1][1]]], { step: true }) }),
    s("line", { class: "budget", x1: plot.x(item.limit), x2: plot.x(item.limit), y1: plot.box.top, y2: plot.box.bottom }),
  );
  interactive(
    plot,
    steps.map(([x, yPlace], place) => ({
      x,
      y: yPlace,
      card: () =>
        facts([
          ["limit", formatMetric(item.curve.limit[place], quantity)],
          [target.label, formatMetric(item.curve.value[place], target)],
        ]),
    })),
  );
  host.replaceChildren(plot.svg);
}
