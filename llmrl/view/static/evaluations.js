// Evaluations: their numbers, and what was right before and is wrong now.
"use strict";

const CHANGES = [
  ["lost", "right before, wrong now"],
  ["won", "wrong before, right now"],
  ["both", "right in both"],
  ["neither", "wrong in both"],
];

async function drawEvaluations(main) {
  const found = await ask("evaluations");
  const all = found.flatMap(({ run, evaluations }) => evaluations.map((each) => ({ run, ...each })));
  if (!all.length) {
    main.replaceChildren(note("No run here has an evaluation: eval.benchmarks and eval.every of a recipe, or llmrl eval, make them."));
    return;
  }
  const wanted = state.get();
  const benchmarks = [...new Set(all.flatMap((each) => Object.keys(each.benchmarks)))].sort();
  const benchmark = benchmarks.includes(wanted.benchmark) ? wanted.benchmark : benchmarks[0];
  const having = all.filter((each) => each.benchmarks[benchmark]);
  const id = (each) => `${each.run}\n${each.folder}`;
  const own = having.filter((each) => each.run === currentRun());
  const usual = own.length > 1 ? own : having;
  const pick = (text, otherwise) => having.find((each) => id(each) === text) || otherwise;
  const before = pick(wanted.before, usual[0]);
  const after = pick(wanted.after, usual[usual.length - 1]);
  const change = CHANGES.some(([name]) => name === wanted.change) ? wanted.change : "lost";
  const options = having.map((each) => [id(each), `${each.run} · ${each.label}`]);
  const compared = await ask("comparison", { benchmark, change, before_run: before.run, before_folder: before.folder, after_run: after.run, after_folder: after.folder });
  const tabs = CHANGES.map(([name, text]) =>
    el("button", { class: `segment${name === change ? " current" : ""}`, "data-change": name, onclick: () => state.set({ change: name }, { replace: true }) }, `${text} `, el("b", {}, compared.counts[name])),
  );
  const rest = compared.only.before + compared.only.after;
  main.replaceChildren(
    el(
      "div",
      { class: "tools" },
      choice("benchmark", benchmarks.map((name) => [name, name]), benchmark, (name) => state.set({ benchmark: name }, { replace: true })),
      choice("before", options, id(before), (text) => state.set({ before: text }, { replace: true })),
      choice("after", options, id(after), (text) => state.set({ after: text }, { replace: true })),
    ),
    el("div", { class: "segments wide" }, tabs),
    rest ? note(`${rest} problems are in one of the two only.`) : "",
    compared.rows.length < compared.counts[change] ? note(`The first ${compared.rows.length} are shown.`) : "",
    el("div", { class: "compared" }, compared.rows.length ? compared.rows.map(comparedRow) : note("No problem.")),
    el("h3", {}, "Numbers"),
    numbersOf(having, benchmark),
  );
}

function comparedRow(row) {
  const prompt = row.after.prompt || row.before.prompt || [];
  const last = prompt.length ? prompt[prompt.length - 1] : null;
  const answer = (side, label) =>
    el(
      "div",
      { class: "answer" },
      el("div", { class: "role" }, `${label} `, verdictBadge(side.verdict), el("span", { class: "quiet" }, ` ${side.tokens ?? "?"} tokens${side.right > 0 && side.right < 1 ? ` · right in ${(100 * side.right).toFixed(0)} % of the samples` : ""}`)),
      foldable(side.completion || "", true),
      el("div", { class: "quiet" }, side.reason || (side.final === null || side.final === undefined ? "" : `read ${side.final}`)),
    );
  return el(
    "details",
    { class: "comparison", open: true },
    el("summary", {}, el("b", {}, row.problem), row.after.answer ? el("span", { class: "quiet" }, ` reference ${row.after.answer}`) : ""),
    last ? messageOf(last, "main") : "",
    el("div", { class: "pair" }, answer(row.before, "before"), answer(row.after, "after")),
  );
}

function numbersOf(evaluations, benchmark) {
  const names = [...new Set(evaluations.flatMap((each) => Object.keys(each.benchmarks[benchmark].metrics || {})))];
  const rows = evaluations.map((each) => {
    const result = each.benchmarks[benchmark];
    const cell = (name) => {
      const estimate = (result.metrics || {})[name];
      if (!estimate) return "–";
      const text = name === "reward" ? (value) => number(value, 3) : (value) => (100 * value).toFixed(1); // a mean is no share
      return [el("b", {}, name === "reward" ? text(estimate.value) : `${text(estimate.value)} %`), el("span", { class: "quiet" }, ` ${text(estimate.low)} to ${text(estimate.high)}`)];
    };
    const cut = typeof result.truncated === "number" ? `${(100 * result.truncated).toFixed(1)} %` : "–";
    return [each.run, each.label, ...names.map(cell), number(result.mean_tokens, 4), cut, number(result.unjudged), number(result.problems)];
  });
  return table(["run", "evaluation", ...names, "tokens, mean", "cut off", "unjudged", "problems"], rows);
}

// Files: pictures and texts that a run has kept

async function drawFiles(main) {
  const run = currentRun();
  const [found, about] = await Promise.all([ask("files", { run }), ask("run", { run })]);
  const wanted = state.get();
  const rows = found.map((file) =>
    el("li", { class: file.path === wanted.path ? "current" : "" }, el("button", { class: "link", onclick: () => state.set({ path: file.path }) }, el("span", { class: "name" }, file.path), el("span", { class: "quiet" }, `${(file.bytes / 1024).toFixed(1)} KiB`))),
  );
  const chosen = found.find((file) => file.path === wanted.path) || found.find((file) => file.path === "curves.png") || found[0];
  const view = el("div", { id: "file" });
  main.replaceChildren(el("p", { class: "quiet" }, `${about.folder} · ${about.manifest.status || "no manifest"}`), el("div", { class: "split" }, el("ul", { class: "runs files" }, rows), view));
  if (!chosen) return view.append(note("The folder holds no pictures and no texts beside its logs."));
  if (chosen.picture) return view.append(el("img", { src: `file?${new URLSearchParams({ run, path: chosen.path })}`, alt: chosen.path, class: "screen" }));
  const text = await ask("text", { run, path: chosen.path });
  return view.append(text.cut ? note("The end of the file is shown.") : "", el("pre", { class: "text" }, text.text));
}
