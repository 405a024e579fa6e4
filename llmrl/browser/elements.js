// Numbers the elements of a page and describes those that a person can see. Runs in a world of its own: scripts of the
// page find nothing of it. A number stays with its element for as long as the document does.
globalThis.elements = (() => {
  const NEVER = new Set(["SCRIPT", "STYLE", "NOSCRIPT", "TEMPLATE", "HEAD", "OPTION", "OPTGROUP", "DATALIST", "BR", "HR"]);
  const CONTROLS = new Set(["A", "BUTTON", "INPUT", "TEXTAREA", "SELECT", "SUMMARY", "IMG", "CANVAS", "VIDEO"]);
  const SHAPES = new Set(["circle", "rect", "polygon", "ellipse", "line", "path", "image", "text"]);
  const CLEAR = "rgba(0, 0, 0, 0)";
  const byNumber = new Map(), numbers = new WeakMap();
  let last = 0;

  function number(element) {
    if (!numbers.has(element)) {
      numbers.set(element, ++last);
      byNumber.set(last, element);
    }
    return numbers.get(element);
  }
  const tidy = (text) => text.replace(/\s+/g, " ").trim();
  const isShown = (element) => getComputedStyle(element).visibility === "visible";
  const isText = (node) => node.nodeType === Node.TEXT_NODE && /\S/.test(node.data);

  function isControl(element) {
    if (CONTROLS.has(element.tagName) || element.isContentEditable) return true;
    if (element.hasAttribute("onclick") || element.hasAttribute("tabindex") || element.draggable) return true;
    const parent = element.parentElement;
    const points = (of) => of && getComputedStyle(of).cursor === "pointer";
    return points(element) && !points(parent);
  }
  function scrolls(element) {
    const isLong = element.clientHeight > 0 && element.scrollHeight > element.clientHeight + 1;
    if (!isLong || element === document.body) return false;
    return element instanceof HTMLTextAreaElement || /auto|scroll/.test(getComputedStyle(element).overflowY);
  }
  function value(element) {
    if (element instanceof HTMLSelectElement) return [...element.selectedOptions].map((o) => tidy(o.text)).join(", ");
    if (element instanceof HTMLTextAreaElement) return element.value;
    if (!(element instanceof HTMLInputElement)) return null;
    return ["checkbox", "radio", "image", "file"].includes(element.type) ? null : element.value;
  }
  function flags(element) {
    const found = [];
    if (element === document.activeElement && element !== document.body) found.push("focused");
    if (element.checked) found.push("checked");
    if (element.disabled) found.push("disabled");
    if (element.readOnly) found.push("readonly");
    if (element.getAttribute("aria-selected") === "true") found.push("selected");
    if (element.getAttribute("aria-expanded") === "true") found.push("expanded");
    if (scrolls(element)) found.push("scrollable");
    return found;
  }
  function look(element, isEmpty) {
    const shape = SHAPES.has(element.tagName);
    if (!shape && !isEmpty) return "";
    const style = getComputedStyle(element), rect = element.getBoundingClientRect(), parts = [];
    const name = element.getAttribute("class");
    if (!shape && name) parts.push("." + tidy(name).split(" ").join("."));
    const colour = shape ? element.getAttribute("fill") || style.fill : style.backgroundColor;
    if (colour && colour !== CLEAR && colour !== "none") parts.push("color=" + colour.replace(/ /g, ""));
    if (shape) parts.push(`size=${Math.round(rect.width)}x${Math.round(rect.height)}`);
    return parts.join(" ");
  }
  function describe(element, text, isEmpty) {
    const input = element instanceof HTMLInputElement, rect = element.getBoundingClientRect();
    const select = element instanceof HTMLSelectElement;
    if (input && ["submit", "button", "reset"].includes(element.type)) text = element.value || element.type;
    return {
      ref: number(element),
      tag: input ? "input_" + element.type : element.tagName.toLowerCase(),
      id: element.id || "",
      text: text || element.getAttribute("aria-label") || element.alt || element.title || element.placeholder || "",
      value: input && ["submit", "button", "reset"].includes(element.type) ? null : value(element),
      flags: flags(element),
      options: select ? [...element.options].map((option) => tidy(option.text)) : [],
      look: look(element, isEmpty && !text && !CONTROLS.has(element.tagName)),
      box: [rect.left, rect.top, rect.width, rect.height].map(Math.round),
    };
  }
  function walk(element, hidden, out) {
    if (NEVER.has(element.tagName) || (hidden && element.matches(hidden))) return;
    if (getComputedStyle(element).display === "none") return;
    const rect = element.getBoundingClientRect();
    const nodes = [...element.childNodes], children = [...element.children].filter((c) => !NEVER.has(c.tagName));
    const text = children.length ? "" : tidy(element.textContent), isEmpty = !children.length && !text;
    const listed = text || isControl(element) || scrolls(element) || isEmpty || SHAPES.has(element.tagName);
    const sized = rect.width > 0 && rect.height > 0 && isShown(element);
    if (sized && listed) {
      const info = describe(element, element.tagName === "SELECT" || element.tagName === "TEXTAREA" ? "" : text, isEmpty);
      if (!isEmpty || isControl(element) || info.look || info.id) out.push(info);
    }
    if (!children.length || element.tagName === "SELECT") return;
    for (const node of nodes) {
      if (isText(node) && sized) out.push({ ref: null, tag: "text", text: tidy(node.data), box: [0, 0, 0, 0] });
      else if (node.nodeType === Node.ELEMENT_NODE) walk(node, hidden, out);
    }
  }
  function at(ref) {
    const element = byNumber.get(ref);
    return element && element.isConnected ? element : null;
  }

  return {
    list(hidden) {
      const out = [];
      if (document.body) walk(document.body, hidden, out);
      return out;
    },
    // Number of each of these elements; null where one is hidden or shows nothing.
    refs: (hidden, ...found) => found.map((node) => {
      const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
      return element && !(hidden && element.closest(hidden)) ? number(element) : null;
    }),
    // Where to click an element, brought into view: the middle of its first line, or a part that nothing covers. A word
    // where that cannot be.
    point(ref) {
      const element = at(ref);
      if (!element) return "gone";
      const inside = (r) => r.top >= 0 && r.left >= 0 && r.bottom <= innerHeight && r.right <= innerWidth;
      if (!inside(element.getBoundingClientRect())) element.scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
      const rect = [...element.getClientRects()].find((r) => r.width > 0 && r.height > 0);
      if (!rect) return "without a box";
      const places = [0.5, 0.2, 0.8, 0.05, 0.95].flatMap((x) => [0.5, 0.2, 0.8].map((y) => [x, y]));
      const points = places.map(([x, y]) => [rect.left + x * rect.width, rect.top + y * rect.height]);
      const top = (point) => document.elementFromPoint(...point);
      const free = points.find((point) => element === top(point) || element.contains(top(point))) ?? points[0];
      return [...free, element.clientHeight];
    },
    // Chooses an option of a select by its text, for a list that has dropped down is drawn outside of the page.
    choose(ref, wanted) {
      const element = at(ref);
      if (!element) return "gone";
      if (!(element instanceof HTMLSelectElement)) return "no list to select from";
      const option = [...element.options].find((o) => tidy(o.text) === tidy(wanted));
      if (!option) return "without such an option";
      element.focus();
      if (element.multiple) option.selected = !option.selected;
      else element.selectedIndex = option.index;
      element.dispatchEvent(new Event("input", { bubbles: true }));
      element.dispatchEvent(new Event("change", { bubbles: true }));
      return "";
    },
    type: (ref) => at(ref)?.type ?? "",
    // Focuses the first part of a field, whichever was focused before.
    focus(ref) {
      document.activeElement?.blur();
      at(ref)?.focus();
    },
  };
})();
0;
