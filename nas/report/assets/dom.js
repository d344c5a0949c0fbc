// Elements. Every text from the run goes in as a text node: nothing is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, text]) => node.style.setProperty(key, text));
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element; strings among the children become text. */
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
/** An SVG element. */
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const bodyOf = (id) => document.querySelector(`#${id} > .body`);

/** A definition list from [term, value] pairs; pairs without a value are left out. */
function facts(pairs, className = "facts") {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "–");
  return h(
    "dl",
    { class: className },
    known.map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value))),
  );
}

/** A text that is to be taken away, with a button that copies it. */
function copyable(text, label) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${label}` }, "copy");
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    button.textContent = (await copied(text)) ? "copied" : "select it";
    setTimeout(() => {
      button.textContent = "copy";
    }, 1500);
  });
  return h("span", { class: "copyable" }, h("code", null, text), button);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

const note = (...children) => h("p", { class: "note" }, ...children);
const empty = (text) => h("p", { class: "empty" }, text);
const details = (summary, ...children) => h("details", null, h("summary", null, summary), ...children);

/** A table from headings and rows of cells; cells that are numbers in text stand right where `right` names their column. */
function grid(headings, rows, { right = [], className = "grid", chosen = -1 } = {}) {
  const cell = (tag, extra) => (content, column) =>
    h(tag, { class: right.includes(column) ? "right" : null, ...extra }, content);
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      { class: className },
      h("thead", null, h("tr", null, headings.map(cell("th", { scope: "col" })))),
      h(
        "tbody",
        null,
        rows.map((row, place) => h("tr", { class: place === chosen ? "chosen" : null }, row.map(cell("td")))),
      ),
    ),
  );
}

/** The floating card beside a point of the window. */
const card = {
  node: document.getElementById("card"),
  show(content, x, y) {
    this.node.replaceChildren(content);
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const [room, below] = [document.documentElement.clientWidth, window.innerHeight];
    const left = x + 18 + width > room ? Math.max(4, x - width - 18) : x + 18;
    const top = Math.max(4, Math.min(y - height / 3, below - height - 8));
    this.node.style.setProperty("left", `${left}px`);
    this.node.style.setProperty("top", `${top}px`);
  },
  hide() {
    this.node.hidden = true;
  },
};

/** Draws now, and again whenever the width of `host` changes. */
function drawn(host, draw) {
  let width = 0;
  const again = () => {
    const now = Math.round(host.clientWidth);
    if (now === 0 || now === width) return;
    width = now;
    draw(now);
  };
  new ResizeObserver(again).observe(host);
  again();
  return () => {
    if (width) draw(width);
  };
}

/** What the reader has chosen; those who listen are told about each change. */
const store = {
  listeners: [],
  state: { selected: null, limits: {}, precision: "any" },
  set(change) {
    this.state = { ...this.state, ...change };
    this.listeners.forEach((listener) => listener(this.state, change));
  },
  listen(listener) {
    this.listeners.push(listener);
  },
};
