// Which choices cost the milliseconds, and which buy the accuracy.

function causesPart(data) {
  const heading = h("h3", null, "Which choices cost the milliseconds, and which buy the accuracy?");
  const { figures, tells } = data.audit.attribution;
  if (figures.every((figure) => figure.reason))
    return [heading, empty(`The data cannot tell: ${[...new Set(figures.map((figure) => figure.reason))].join("; ")}.`)];
  return [
    heading,
    note(
      "Shapley values of a model on the choices alone: what each choice adds, interactions shared equally. A bar is the choice's share of what varies among the networks that were tried; its dark end spans the shares from random halves of them. A model is believed if it predicts networks it has not seen: from ",
      percent(tells, 0),
      " of their variance on. What is called cause here holds among the networks of this search, not beyond.",
    ),
    h(
      "div",
      { class: "panels causes" },
      figures.map((figure) => causesPanel(figure, data)),
    ),
  ];
}

function causesPanel(figure, data) {
  const quantity = data.quantities[figure.key] || quantityOf(figure.key, data);
  const title = figure.key === "accuracy" ? "Accuracy, in points" : `${sentence(placed(quantity, data))}, predicted`;
  const panel = h("div", { class: "panel" }, h("h4", null, title));
  if (figure.reason) {
    panel.append(empty(`The data cannot tell: ${figure.reason}.`));
    return panel;
  }
  const shown = figure.choices.filter((choice) => choice.share > 0.005);
  const rows = (choices) =>
    h(
      "table",
      { class: `bars causes${figure.tells ? "" : " faint"}` },
      h("tbody", null, choices.map((choice) => causeRow(choice, figure, quantity))),
    );
  const known = `It predicts ${percent(Math.max(0, figure.r2), 0)} of the variance of networks it has not seen (${plural(figure.used, "network")}${figure.used < figure.n ? ` of ${integer(figure.n)}` : ""}).`;
  if (!figure.tells)
    panel.append(
      h("p", { class: "finding warn" }, `The data cannot tell. ${known} What is below is the best guess, and may be noise.`),
    );
  panel.append(
    rows(shown.slice(0, 8)),
    shown.length > 8 ? details(`${plural(shown.length - 8, "further choice")} with a smaller share`, rows(shown.slice(8))) : "",
    figure.tells ? note(known) : "",
  );
  return panel;
}

/** A choice: its share, and what its options add. */
function causeRow(choice, figure, quantity) {
  const options = choice.options.map((option) => `${option.label}: ${effectText(option.effect, figure)}`);
  const listed = choice.options
    .map((option) => {
      const span = `${effectText(option.low, figure)} … ${effectText(option.high, figure)}`;
      return `${option.label}: ${effectText(option.effect, figure)} (${span}), ${plural(option.count, "network")}`;
    })
    .join("\n");
  const label = `${quantity.label}: ${choice.name}, ${percent(choice.share, 0)} of the variance, ${percent(choice.low, 0)} to ${percent(choice.high, 0)}`;
  return h(
    "tr",
    { title: listed },
    h(
      "th",
      { scope: "row" },
      choice.name,
      h("small", null, options.length <= 5 ? options.join(" · ") : extremes(choice.options, figure)),
    ),
    h("td", { class: "wide", role: "img", "aria-label": label }, bar(choice.share, choice.low, choice.high)),
    h("td", { class: "right" }, percent(choice.share, 0)),
  );
}

function extremes(options, figure) {
  const order = [...options].sort((a, b) => a.effect - b.effect);
  const [least, most] = [order[0], order[order.length - 1]];
  return `${least.label}: ${effectText(least.effect, figure)} … ${most.label}: ${effectText(most.effect, figure)}`;
}

/** Of a share in points; of a cost in per cent of what the network would cost otherwise. */
function effectText(effect, figure) {
  const digits = Math.abs(100 * effect) < 9.95 ? 1 : 0;
  const text = Math.abs(100 * effect).toFixed(digits);
  const sign = Number(text) === 0 ? "±" : effect < 0 ? "−" : "+";
  return `${sign}${text}${figure.relative ? "\u00a0%" : ""}`;
}
