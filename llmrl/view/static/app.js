// The page as a whole: its tabs, its keys, and the clock by which it follows runs that train.
"use strict";

const VIEWS = [["curves", "Curves"], ["episodes", "Episodes"], ["evaluations", "Evaluations"], ["files", "Files"]];
const DRAW = { curves: drawCurves, episodes: drawEpisodes, evaluations: drawEvaluations, files: drawFiles };
const FOLLOW_MS = 2500;
const KEYS = [
  ["1 2 3 4", "curves, episodes, evaluations, files"],
  ["j  k", "next episode, episode before"],
  ["h  l", "step before, next step"],
  ["[  ]", "episode of the same group before, next"],
  ["s", "two episodes of the group side by side"],
  ["c", "colour tokens by the next number"],
  ["←  →", "token before, next token"],
  ["/", "search"],
  ["t", "light or dark"],
  ["?  Esc", "this list; close"],
];
let drawnView = "";
let drawing = 0;

function drawBar() {
  const view = state.get().view || "curves";
  const tabs = VIEWS.filter(([name]) => name !== "files" || !window.EXPORTED).map(([name, text]) => el("a", { href: state.address({ view: name }), class: name === view ? "tab current" : "tab", "data-view": name }, text));
  const live = known.runs.filter(isLive).length;
  at("bar").replaceChildren(
    el("span", { class: "brand" }, "llmrl"),
    el("nav", {}, tabs),
    el("span", { class: "quiet", id: "live" }, window.EXPORTED ? `as it stood on ${window.EXPORTED.made}` : live ? `${live} running` : ""),
    el("button", { class: "small right", onclick: turnTheme, title: "light or dark (t)" }, "◐"),
    el("button", { class: "small", onclick: toggleKeys, title: "keys (?)" }, "?"),
  );
}

async function show() {
  const view = DRAW[state.get().view] ? state.get().view : "curves";
  const main = at("main");
  const isNew = view !== drawnView;
  if (isNew) {
    main.replaceChildren(note("…"));
    main.className = `view-${view}`;
    drawnView = view;
  }
  drawBar();
  drawSide();
  const own = ++drawing;
  try {
    await DRAW[view](main, isNew);
  } catch (error) {
    if (own === drawing) failed(error);
  }
  document.body.dataset.drawn = String(own);
}

function failed(error) {
  drawnView = "";
  at("main").replaceChildren(note(`${error.message}`, "failed"));
}

async function follow() {
  try {
    if (document.visibilityState === "visible") {
      const before = JSON.stringify(known.runs);
      Object.assign(known, await ask("runs"));
      const view = state.get().view || "curves";
      const reading = view === "evaluations" || view === "files" || (view === "episodes" && (state.get().step || state.get().row));
      if (JSON.stringify(known.runs) !== before || (view === "episodes" && list.progress < 1)) {
        if (reading && list.progress >= 1) {
          drawBar();
          drawSide();
        } else {
          await show();
        }
      }
      document.body.classList.remove("lost");
    }
  } catch {
    document.body.classList.add("lost");
    const live = at("live");
    if (live) live.textContent = "the viewer has ended, or cannot be reached";
  }
  setTimeout(follow, FOLLOW_MS);
}

function turnTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("dark");
  setTheme(dark ? "light" : "dark");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  memory.set("theme", theme);
}

function toggleKeys() {
  const there = at("keys");
  if (there) return there.remove();
  const box = el("div", { id: "keys", onclick: (event) => event.target.id === "keys" && event.target.remove() }, el("div", { class: "card" }, el("h2", {}, "Keys"), table(["key", "what it does"], KEYS.map(([key, text]) => [el("kbd", {}, key), text]))));
  return document.body.append(box);
}

const ACTIONS = {
  j: () => moveRow(1),
  k: () => moveRow(-1),
  h: () => moveStep(-1),
  l: () => moveStep(1),
  "[": () => moveSibling(-1),
  "]": () => moveSibling(1),
  s: toggleBeside,
  c: nextColour,
  ArrowLeft: () => moveToken(-1),
  ArrowRight: () => moveToken(1),
};

document.addEventListener("keydown", (event) => {
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key === "Escape") {
    if (at("keys")) return at("keys").remove();
    if (typing) return event.target.blur();
    return state.set({ with: "", token: "", turn: "" });
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (event.key === "/" && at("search")) {
    event.preventDefault();
    return at("search").focus();
  }
  if (event.key === "?") return toggleKeys();
  if (event.key === "t") return turnTheme();
  if (VIEWS[Number(event.key) - 1]) return state.set({ view: VIEWS[Number(event.key) - 1][0] });
  if (state.get().view === "episodes" && ACTIONS[event.key]) {
    event.preventDefault();
    return Promise.resolve(ACTIONS[event.key]()).catch(failed);
  }
  return undefined;
});

window.addEventListener("hashchange", show);
window.addEventListener("resize", debounced(() => { if ((state.get().view || "curves") === "curves") show(); else if (at("list")) drawRows(); }, 150));

(async () => {
  const theme = memory.get("theme", "");
  if (theme) document.documentElement.dataset.theme = theme;
  try {
    Object.assign(known, await ask("runs"));
  } catch (error) {
    return failed(error);
  }
  if (!known.runs.length) at("main").replaceChildren(note("No runs yet in the folders that were given. This page shows them as soon as they begin."));
  else await show();
  if (!window.EXPORTED) setTimeout(follow, FOLLOW_MS);
  return undefined;
})();
