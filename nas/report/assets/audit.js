// The audit: whether cheap judgements rank like final ones, what the strategy gained over chance, and what stands behind.

function renderAudit(data) {
  const root = bodyOf("audit");
  const { audit } = data;
  if (!data.search.count) {
    root.append(empty("No evaluation is recorded, so there is nothing to audit."));
    return;
  }
  if (audit.evaluations < data.search.count)
    root.append(
      note(`Looked at: ${plural(audit.evaluations, "evaluation")} of ${integer(data.search.count)}, evenly spread, with the front.`),
    );
  root.append(...agreementPart(audit), ...chancePart(data), ...causesPart(data), ...neighboursPart(data), ...relaxingPart(data));
}

function agreementPart(audit) {
  const heading = h("h3", null, "Does the cheap judgement rank like the final one?");
  if (!audit.agreement.length)
    return [
      heading,
      empty("Fewer than three networks were judged twice, so no rank correlation can be given."),
    ];
  const rows = audit.agreement.map((row) => [
    h("span", null, sentence(row.cheap), h("small", null, `against ${row.final}`)),
    integer(row.n),
    h("span", { class: "correlation" }, h("b", null, signed(row.spearman)), forest(row, "spearman")),
    h("span", { class: "muted" }, spanText(row, "spearman")),
    h("span", null, signed(row.kendall), h("small", null, ` ${spanText(row, "kendall")}`)),
  ]);
  return [
    heading,
    h("p", { class: "finding" }, agreementVerdict(audit)),
    grid(["judged by", "networks", "Spearman", "95 % interval", "Kendall"], rows, {
      right: [1],
      className: "grid agreement",
    }),
    note(
      "Rank correlation: 1 for the same order, 0 for none. Finalists were chosen for their first judgement, so they lie close together and the correlation among them is lower than among all networks. ",
      audit.agreement.some((row) => row.kind === "model")
        ? "The model predicts each network's accuracy from its choices without having seen that network: what a surrogate can know here. "
        : "",
      audit.agreement.some((row) => row.kind === "score")
        ? "Scores of untrained networks have to beat the multiply-accumulates, which cost nothing."
        : "",
    ),
  ];
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const signed = (value) => (isNumber(value) ? value.toFixed(2).replace("-", "−") : "–");
const spanText = (row, name) =>
  isNumber(row[`${name}_low`]) ? `${signed(row[`${name}_low`])} … ${signed(row[`${name}_high`])}` : "too few for one";

/** A correlation with its interval on a line from −1 to 1. */
function forest(row, name) {
  const at = (value) => 50 + 48 * value;
  const [low, high] = [row[`${name}_low`], row[`${name}_high`]];
  return s(
    "svg",
    { class: "forest", viewBox: "0 0 100 12", width: 110, height: 13, "aria-hidden": "true" },
    s("line", { class: "axis-line", x1: at(-1), x2: at(1), y1: 6, y2: 6 }),
    s("line", { class: "axis-line", x1: at(0), x2: at(0), y1: 1, y2: 11 }),
    isNumber(low) ? s("line", { class: "reach", x1: at(low), x2: at(high), y1: 6, y2: 6 }) : null,
    s("circle", { class: "value", cx: at(row[name]), cy: 6, r: 3 }),
  );
}

/** In words: how far the search's own judgement carries. */
function agreementVerdict(audit) {
  const short = audit.agreement.filter((row) => row.kind === "short");
  const row = short.find((item) => item.final.startsWith("test")) || short[0];
  if (!row) return "No network that the search judged has a final judgement yet.";
  const figure = `Spearman ${signed(row.spearman)} over ${plural(row.n, "finalist")}`;
  if (!isNumber(row.spearman_low)) return `${figure}: too few to say how far the short training can be trusted.`;
  if (row.spearman_low <= 0)
    return `${figure}, which is not told apart from chance: among these finalists the short training says little about the final order.`;
  const strength = row.spearman_low > 0.6 ? "ranks them much like the final one" : "points the right way, but leaves much open";
  return `${figure}: the short training ${strength}.${row.n < 20 ? " With so few networks the interval counts, not the figure." : ""}`;
}

function chancePart(data) {
  const heading = h("h3", null, "What did the strategy gain over chance?");
  const found = data.audit.chance;
  if (!found)
    return [
      heading,
      h(
        "p",
        { class: "finding" },
        data.search.baseline
          ? "There is a random baseline, but its hypervolume is not known. "
          : "This run cannot say: no random baseline was run, and the first designs of a strategy are spread out on purpose, so they are none. ",
        data.search.baseline
          ? ""
          : h("span", null, "To learn it: ", h("code", null, `nas search run.resume=<this folder> run.random_baseline=${data.search.count}`)),
      ),
    ];
  const ahead = found.search - found.random;
  const within = found.search <= found.random_high && found.search >= found.random_low;
  const sooner =
    isNumber(found.reached_after) && found.reached_after <= found.shared
      ? ` The search had what ${integer(found.shared)} random draws have on average after ${plural(found.reached_after, "training")}.`
      : "";
  const later = isNumber(found.random_needs)
    ? ` Random draws need about ${integer(found.random_needs)} to reach it.`
    : ` All ${integer(found.draws)} random draws together do not reach it.`;
  return [
    heading,
    h(
      "p",
      { class: "finding" },
      `After ${plural(found.shared, "training")} each, the search's front dominates ${found.search.toFixed(3)} of the box, random draws ${found.random.toFixed(3)} on average. `,
      ahead > 0 && !within ? `${sooner}${later}` : "That is no gain over chance that this run could show.",
    ),
    note(
      "The curves stand above, under what was tried. Random draws keep the budgets, too, and any order of them is a random search: the band holds 90 % of the orders, and closes at the end because all orders hold the same draws. It says nothing about other draws, and the search ran once.",
    ),
  ];
}
