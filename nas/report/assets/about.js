// Environment and reproduction, and everything a run wanted to be said.

function renderAbout(data) {
  const root = bodyOf("about");
  const { about } = data;
  const overrides = about.overrides.map((text) => h("li", null, h("code", null, text)));
  if (data.command) root.append(h("h3", null, "Command"), copyable(data.command, "command"));
  root.append(
    h(
      "div",
      { class: "columns" },
      block("Run", [
        ["name", data.name],
        ["started", moment(data.created)],
        ["finished", moment(data.finished) || "not finished"],
        ["seed", about.seed],
        ["commit", data.commit],
        ["overrides", overrides.length ? h("ul", { class: "plain" }, overrides) : "none"],
      ]),
      block("Search space", [
        ["name", about.space.name],
        ["digest", about.space.digest],
        ["source", about.space.source],
        ["architectures", spaceSize(about.space.size)],
        ["choices", about.space.num_choices || null],
      ]),
      block("Data", dataPairs(about.data)),
      ...about.devices.map((device) =>
        block("Device", plainPairs({ ...device, ...(device.card || {}), card: null, _target_: null })),
      ),
      block("Host", plainPairs(about.host, { memory_bytes: (value) => formatQuantity(value, "bytes") })),
      block("Versions", plainPairs(about.versions)),
    ),
  );
  if (Array.isArray(about.data.classes) && about.data.classes.length) {
    root.append(
      details(
        `${plural(about.data.classes.length, "class", "classes")} of the data`,
        h(
          "ol",
          { class: "classes", start: 0 },
          about.data.classes.slice(0, 1000).map((name) => h("li", null, String(name))),
        ),
      ),
    );
  }
  if (about.config && Object.keys(about.config).length)
    root.append(details("Full configuration", h("pre", null, JSON.stringify(about.config, null, 2))));
}

/** A block of facts; without any it says so. */
function block(title, pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("div", null, h("h3", null, title), known.length ? facts(known) : empty("not recorded"));
}

function plainPairs(object, formats = {}) {
  return Object.entries(object).map(([key, value]) => [
    key.replace(/_bytes$/, "").replaceAll("_", " "),
    formats[key] ? formats[key](value) : plainText(value),
  ]);
}

const plainText = (value) =>
  value !== null && typeof value === "object"
    ? JSON.stringify(value)
    : value === null || value === undefined
      ? null
      : String(value);

function dataPairs(set) {
  return [
    ["name", plainText(set.name)],
    ["digest", plainText(set.digest)],
    ["train", isNumber(set.num_train) ? integer(set.num_train) : null],
    ["validation", isNumber(set.num_validation) ? integer(set.num_validation) : null],
    ["test", isNumber(set.num_test) ? integer(set.num_test) : null],
    [
      "input",
      (Array.isArray(set.input_shape) ? set.input_shape : [set.channels, set.height, set.width].filter(isNumber)).join(
        " × ",
      ),
    ],
    ["classes", Array.isArray(set.classes) ? integer(set.classes.length) : plainText(set.classes)],
    ["note", plainText(set.note)],
  ];
}

/** An exact count as text is shortened where it is long: 1200000000 becomes 1.2 × 10⁹. */
function spaceSize(text) {
  if (!/^\d+$/.test(text)) return text || null;
  if (text.length < 7) return integer(Number(text));
  const power = [...String(text.length - 1)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");
  return `${Number(`${text[0]}.${text.slice(1, 3)}`)} × 10${power}`;
}

function renderNotes(data) {
  const root = bodyOf("notes");
  const unfinished = data.finished
    ? []
    : ["The run is not marked as finished: what stands here is its state when this page was written."];
  const refusedFiles = data.files
    .filter((file) => file.accepted === false && file.reason)
    .map((file) => `${fileTitle(file)}: ${file.reason}`);
  const all = [...unfinished, ...data.notes, ...refusedFiles];
  root.append(
    all.length
      ? h(
          "ul",
          { class: "notes" },
          all.map((text) => h("li", null, text)),
        )
      : empty("None."),
    note("Made by nas from the files of the run folder alone; nothing on this page was fetched from elsewhere."),
  );
}
