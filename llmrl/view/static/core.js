// What all parts share: elements, questions to the server, the address as state. Texts of models only ever become
// text nodes; nothing here, nor anywhere else on the page, parses markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const at = (id) => document.getElementById(id);

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const short = Number(value.toPrecision(size >= 1000 ? Math.max(5, digits) : digits));
  return size >= 1e6 || size < 1e-3 ? short.toExponential() : String(short);
}

// Questions

async function ask(name, query = {}) {
  if (window.EXPORTED) return answerFromFile(name, query);
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const response = await fetch(`api/${name}?${new URLSearchParams(given)}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(typeof answer.error === "string" ? answer.error : answer.error.message);
  return answer;
}

// State: what is looked at stands in the address, so that a link leads anyone to it

const state = {
  get() {
    return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  },
  address(changes) {
    const kept = { ...state.get(), ...changes };
    const given = Object.entries(kept).filter(([, value]) => value !== undefined && value !== null && value !== "");
    return `#${new URLSearchParams(given)}`;
  },
  set(changes, { replace = false } = {}) {
    const address = state.address(changes);
    if (address === location.hash) return;
    if (replace) {
      history.replaceState(null, "", address);
      show();
    } else {
      location.hash = address;
    }
  },
};

const memory = {
  get(name, otherwise) {
    try {
      return localStorage.getItem(`llmrl.${name}`) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`llmrl.${name}`, value);
    } catch {
      // a file on disk may have no storage
    }
  },
};

// Messages and small parts

function note(text, kind = "note") {
  return el("p", { class: kind }, text);
}

function verdictBadge(verdict) {
  return el("span", { class: `verdict v-${verdict || "none"}` }, verdict || "no verdict");
}

function choice(label, values, chosen, changed) {
  const options = values.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("label", { class: "field" }, label, el("select", { onchange: (event) => changed(event.target.value) }, options));
}

function field(label, value, changed, more = {}) {
  const late = debounced((event) => changed(event.target.value.trim()), 250);
  return el("label", { class: "field" }, label, el("input", { value: value || "", oninput: late, ...more }));
}

function debounced(call, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), milliseconds);
  };
}

function table(head, rows) {
  return el(
    "div",
    { class: "scrolls" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, head.map((cell) => el("th", {}, cell)))),
      el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell) => el("td", {}, cell))))),
    ),
  );
}

const tip = {
  show(event, ...children) {
    const box = at("tip");
    box.replaceChildren(...children);
    box.hidden = false;
    const width = box.offsetWidth;
    const height = box.offsetHeight;
    const left = event.clientX + 14 + width > innerWidth ? event.clientX - width - 10 : event.clientX + 14;
    const top = event.clientY + 16 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 16;
    box.style.left = `${Math.max(4, left)}px`;
    box.style.top = `${Math.max(4, top)}px`;
  },
  hide() {
    at("tip").hidden = true;
  },
};

// Colours of runs: told apart in both themes, and by people who see few colours (Okabe and Ito)
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const colourOf = (names, name) => COLOURS[Math.max(0, names.indexOf(name)) % COLOURS.length];

function dotOf(colour, more = "") {
  const dot = el("i", { class: `dot${more}` });
  dot.style.background = colour;
  return dot;
}
