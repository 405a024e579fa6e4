// Curves as SVG: lines, smoothed lines, bands over seeds, a cross-hair with values; a drag zooms, a click opens a step.
"use strict";

const HEIGHT = 210;
const MARGIN = { left: 52, right: 12, top: 10, bottom: 24 };

function ticks(low, high, count) {
  const span = high - low || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= count);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

// An exponential moving average, freed of its bias towards the beginning
function smoothed(points, weight) {
  if (!weight) return points;
  let sum = 0;
  let mass = 0;
  return points.map(([step, value]) => {
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return [step, sum / mass];
  });
}

// Mean and range at the steps that all of a group's runs have
function band(curves) {
  const values = new Map();
  for (const points of curves) {
    for (const [step, value] of points) {
      if (!values.has(step)) values.set(step, []);
      values.get(step).push(value);
    }
  }
  const shared = [...values].filter(([, found]) => found.length === curves.length).sort((a, b) => a[0] - b[0]);
  return shared.map(([step, found]) => ({
    step,
    mean: found.reduce((sum, value) => sum + value, 0) / found.length,
    low: Math.min(...found),
    high: Math.max(...found),
  }));
}

// series: [{name, colour, points, raw, band, opens}]; zoom: [first, last] or null
function chart(title, series, { zoom = null, zoomed = () => {}, opened = null } = {}) {
  const box = el("figure", { class: "chart" }, el("figcaption", {}, title));
  const place = el("div", { class: "plot" });
  box.append(place);
  const draw = () => {
    const width = Math.max(220, place.clientWidth || 360);
    place.replaceChildren(picture(width, series, zoom, zoomed, opened));
  };
  box.draw = draw;
  return box;
}

function extent(series, zoom) {
  const inside = ([step]) => !zoom || (step >= zoom[0] && step <= zoom[1]);
  const points = series.flatMap((each) => [
    ...each.points.filter(inside),
    ...(each.raw || []).filter(inside),
    ...(each.band || []).filter((b) => inside([b.step])).flatMap((b) => [[b.step, b.low], [b.step, b.high]]),
  ]);
  if (!points.length) return null;
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [x, y] of points) {
    x0 = Math.min(x0, x);
    x1 = Math.max(x1, x);
    y0 = Math.min(y0, y);
    y1 = Math.max(y1, y);
  }
  const room = y1 === y0 ? Math.abs(y0) * 0.1 || 1 : (y1 - y0) * 0.06;
  return { x0: zoom ? zoom[0] : x0, x1: zoom ? zoom[1] : x1 === x0 ? x0 + 1 : x1, y0: y0 - room, y1: y1 + room };
}

function picture(width, series, zoom, zoomed, opened) {
  const root = svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
  const range = extent(series, zoom);
  if (!range) {
    root.append(svg("text", { x: width / 2, y: HEIGHT / 2, class: "empty", "text-anchor": "middle" }, "no values"));
    return root;
  }
  const right = width - MARGIN.right;
  const bottom = HEIGHT - MARGIN.bottom;
  const x = (step) => MARGIN.left + ((step - range.x0) / (range.x1 - range.x0)) * (right - MARGIN.left);
  const y = (value) => bottom - ((value - range.y0) / (range.y1 - range.y0)) * (bottom - MARGIN.top);
  for (const tick of ticks(range.y0, range.y1, 4)) {
    root.append(
      svg("line", { x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
      svg("text", { x: MARGIN.left - 6, y: y(tick) + 3.5, "text-anchor": "end", class: "tick" }, number(tick, 4)),
    );
  }
  for (const tick of ticks(range.x0, range.x1, Math.max(2, Math.floor(width / 90)))) {
    root.append(svg("text", { x: x(tick), y: HEIGHT - 8, "text-anchor": "middle", class: "tick" }, number(tick, 6)));
  }
  root.append(lines(series, range, x, y));
  root.append(crosshair(root, { series, range, x, y, bottom, right, zoomed, opened, zoom }));
  return root;
}

function lines(series, range, x, y) {
  const inside = ([step]) => step >= range.x0 && step <= range.x1;
  const path = (points) => points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const layer = svg("g", {});
  for (const { colour, points, raw, band: range_ } of series) {
    if (range_ && range_.length) {
      const shown = range_.filter((b) => inside([b.step]));
      const edge = [...shown.map((b) => [b.step, b.high]), ...shown.reverse().map((b) => [b.step, b.low])];
      if (edge.length) layer.append(svg("path", { d: `${path(edge)}Z`, fill: colour, "fill-opacity": 0.18 }));
    }
    if (raw) layer.append(svg("path", { d: path(raw.filter(inside)), fill: "none", stroke: colour, "stroke-opacity": 0.25 }));
    const shown = points.filter(inside);
    layer.append(svg("path", { d: path(shown), fill: "none", stroke: colour, "stroke-width": 1.8, class: "curve" }));
    if (shown.length < 25) {
      for (const [step, value] of shown) layer.append(svg("circle", { cx: x(step), cy: y(value), r: 2.4, fill: colour }));
    }
  }
  return layer;
}

function crosshair(root, { series, range, x, y, bottom, right, zoomed, opened, zoom }) {
  const layer = svg("g", {});
  const line = svg("line", { y1: MARGIN.top, y2: bottom, class: "cross", visibility: "hidden" });
  const chosen = svg("rect", { y: MARGIN.top, height: bottom - MARGIN.top, class: "zoom", visibility: "hidden" });
  layer.append(chosen, line);
  const stepAt = (event) => {
    const px = event.clientX - root.getBoundingClientRect().left;
    return range.x0 + ((px - MARGIN.left) / (right - MARGIN.left)) * (range.x1 - range.x0);
  };
  const nearest = (points, step) =>
    points.reduce((best, point) => (best && Math.abs(best[0] - step) <= Math.abs(point[0] - step) ? best : point), null);
  let began = null;
  root.addEventListener("pointermove", (event) => {
    const step = stepAt(event);
    const found = series
      .map((each) => [each, nearest(each.points, step)])
      .filter(([, point]) => point)
      .sort((a, b) => b[1][1] - a[1][1]);
    if (!found.length) return;
    const snap = nearest(found.map(([, point]) => point), step)[0];
    line.setAttribute("x1", x(snap));
    line.setAttribute("x2", x(snap));
    line.setAttribute("visibility", "visible");
    if (began !== null) {
      chosen.setAttribute("x", x(Math.min(began, step)));
      chosen.setAttribute("width", Math.abs(x(step) - x(began)));
      chosen.setAttribute("visibility", "visible");
    }
    const rows = found.slice(0, 14).map(([each, point]) => el("div", {}, dotOf(each.colour), ` ${each.name} `, el("b", {}, number(point[1], 5))));
    tip.show(event, el("div", { class: "quiet" }, `step ${number(snap, 6)}`), ...rows);
  });
  root.addEventListener("pointerleave", () => {
    line.setAttribute("visibility", "hidden");
    chosen.setAttribute("visibility", "hidden");
    began = null;
    tip.hide();
  });
  root.addEventListener("pointerdown", (event) => {
    began = stepAt(event);
    event.preventDefault();
  });
  root.addEventListener("pointerup", (event) => {
    const ended = stepAt(event);
    if (began !== null && Math.abs(x(ended) - x(began)) > 8) {
      zoomed([Math.min(began, ended), Math.max(began, ended)]);
    } else if (opened && series.length) {
      const found = series.map((each) => [each, nearest(each.points, ended)]).filter(([each, point]) => point && each.opens);
      const pointer = event.clientY - root.getBoundingClientRect().top;
      found.sort((a, b) => Math.abs(y(a[1][1]) - pointer) - Math.abs(y(b[1][1]) - pointer));
      if (found.length) opened(found[0][0].opens, Math.round(found[0][1][0]));
    }
    began = null;
  });
  root.addEventListener("dblclick", () => zoom && zoomed(null));
  return layer;
}
