// Shows what is in the element "data"; decides nothing itself. Names are hostile: they get into the page as text only.
"use strict";
(() => {
  const byId = id => document.getElementById(id);
  const fleet = JSON.parse(byId("data").textContent);
  const {symbols, meanings} = JSON.parse(byId("words").textContent);
  const now = Date.parse(fleet.time) / 1000;
  const stateOf = fleet.letters;
  const letterOf = Object.fromEntries(Object.entries(stateOf).map(([letter, state]) => [state, letter]));
  const matrix = byId("matrix"), detail = byId("detail");
  const hostFilter = byId("host-filter"), imageFilter = byId("image-filter");
  const sort = byId("sort"), grouped = byId("grouped");
  const natural = new Intl.Collator("en", {numeric: true}).compare;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes))
      if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    made.append(...children.filter(child => child !== null));
    return made;
  }

  // --- words

  const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function size(bytes) {
    if (bytes === null) return "–";
    let unit = 0;
    for (bytes /= 1024; bytes >= 1024 && unit < 3; unit += 1) bytes /= 1024;
    return `${bytes.toFixed(1)} ${["KiB", "MiB", "GiB", "TiB"][unit]}`;
  }

  function age(seconds) {
    const past = now - seconds;
    for (const [unit, length] of [["year", 31557600], ["day", 86400], ["hour", 3600], ["minute", 60]])
      if (past >= 2 * length) return `${Math.floor(past / length)} ${unit}s before this report`;
    return past >= 0 ? "just before this report" : "after this report";
  }

  function when(seconds) {
    const text = new Date(seconds * 1000).toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
    return `${text}, ${age(seconds)}`;
  }

  const whole = (storage, path) => path.startsWith("/") ? path : `${storage}/${path}`;

  // --- rows: a host, or hosts that are alike and stand in one row

  const hosts = fleet.hosts.map((host, at) => ({
    at, name: host.name, label: host.name, members: [at], states: host.states, status: host.status,
    // a host without facts is worse than any that has some
    problems: host.status === "ok" ? host.problems : fleet.images.length + 1,
    oldest: host.oldest_at ? Date.parse(host.oldest_at) / 1000 : Infinity, space: host.space,
  }));

  const groups = fleet.groups.map((group, number) => ({number, label: group.hosts, members: []}));
  fleet.hosts.forEach((host, at) => groups[host.group].members.push(at));
  for (const group of groups) {
    const first = hosts[group.members[0]];
    Object.assign(group, {
      at: first.at, name: first.name, states: first.states, status: first.status, problems: first.problems,
      oldest: Math.min(...group.members.map(at => hosts[at].oldest)), space: first.space,
    });
  }

  const order = {
    name: (a, b) => natural(a.name, b.name),
    problems: (a, b) => b.problems - a.problems || b.members.length - a.members.length || natural(a.name, b.name),
    age: (a, b) => (a.oldest === b.oldest ? 0 : a.oldest - b.oldest) || natural(a.name, b.name),
    space: (a, b) => b.space - a.space || natural(a.name, b.name),
  };

  const opened = new Set();       // numbers of groups whose hosts are shown
  const pressed = new Set();      // letters of states that are asked for
  let rows = [], columns = [];    // what is shown now
  let focus = [0, 0];             // row and column of the cell that the keyboard is at; row -1 is the header
  let selected = null;            // what the panel is about

  const wrong = image => fleet.problems.reduce((sum, state) => sum + image.counts[state], 0);
  const words = input => input.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const matches = (text, wanted) => !wanted.length || wanted.some(word => text.toLowerCase().includes(word));

  function choose() {
    const hostWords = words(hostFilter), imageWords = words(imageFilter);
    const asked = letters => !pressed.size || letters.some(letter => pressed.has(letter));
    columns = fleet.images.map((_image, at) => at).filter(at => matches(fleet.images[at].reference, imageWords));
    let chosen = hosts.filter(host => matches(host.name, hostWords));
    chosen = chosen.filter(host => asked(columns.map(at => host.states[at])));
    if (pressed.size)
      columns = columns.filter(at => asked(chosen.map(host => host.states[at])));
    if (sort.value === "problems")  // so that rows and columns that matter meet in one corner
      columns.sort((a, b) => wrong(fleet.images[b]) - wrong(fleet.images[a]) || a - b);
    const kept = new Set(chosen.map(host => host.at));
    if (grouped.checked) {
      rows = [];
      for (const group of [...groups].sort(order[sort.value])) {
        const members = group.members.filter(at => kept.has(at));
        if (members.length === 1) rows.push(hosts[members[0]]);
        if (members.length < 2) continue;
        rows.push({...group, shown: members.length});
        if (opened.has(group.number)) rows.push(...members.map(at => ({...hosts[at], member: true})));
      }
    } else rows = chosen.sort(order[sort.value]);
    byId("shown").textContent =
      `${plural(kept.size, "host")}${rows.length < kept.size ? ` in ${plural(rows.length, "row")}` : ""}, ${plural(columns.length, "image")}`;
    for (const row of byId("images").tBodies[0].rows)
      row.hidden = !matches(row.cells[0].textContent, imageWords);
    focus = [Math.min(focus[0], rows.length - 1), Math.min(focus[1], columns.length)];
    draw();
  }

  // --- the matrix: of its rows only those that can be seen are in the page

  const head = element("thead"), body = element("tbody");
  const table = element("table", {role: "grid", "aria-label": "State of each image on each host"}, head, body);
  const rowHeight = 22, spare = 12;
  let window_ = [0, 0];

  function draw() {
    const corner = element("th", {class: "corner", scope: "col"}, element("div", {class: "line"},
      element("span", {}, "Host"), element("span", {class: "number", title: "Images with a problem"}, "prob."),
      element("span", {class: "number space"}, "space")));
    const top = element("tr", {"aria-rowindex": 1}, corner);
    columns.forEach((at, column) => {
      const image = fleet.images[at];
      const bad = wrong(image);
      const name = `${image.reference}: ${bad ? plural(bad, "host") + " with a problem" : "no problems"}`;
      top.append(element("th", {
        class: image.expected === false ? "image extra" : "image", scope: "col", title: name, "aria-label": name,
        tabindex: -1, "data-row": -1, "data-column": column + 1,
      }, element("div", {}, image.label), element("span", {}, bad ? String(bad) : "")));
    });
    head.replaceChildren(top);
    table.setAttribute("aria-rowcount", rows.length + 1);
    table.setAttribute("aria-colcount", columns.length + 1);
    if (rows.length && columns.length) {
      if (!matrix.contains(table)) matrix.replaceChildren(table);  // or the place scrolled to would be lost
      fill(true);
    } else matrix.replaceChildren(element("p", {class: "nothing"}, "Nothing matches."));
  }

  function fill(force = false, all = false) {
    const first = all ? 0 : Math.max(0, Math.floor(matrix.scrollTop / rowHeight) - spare);
    const last = all ? rows.length : Math.min(rows.length, first + Math.ceil(1000 / rowHeight) + 2 * spare);
    const seen = Math.floor(matrix.scrollTop / rowHeight), until = seen + Math.ceil(matrix.clientHeight / rowHeight);
    if (!force && window_[0] <= seen && Math.min(until, rows.length) <= window_[1]) return;
    window_ = [first, last];
    const part = document.createDocumentFragment();
    const space = number => element("tr", {"aria-hidden": "true", style: `height:${number * rowHeight}px`});
    if (first) part.append(space(first));
    for (let at = first; at < last; at += 1) part.append(drawRow(rows[at], at));
    if (last < rows.length) part.append(space(rows.length - last));
    const held = body.contains(document.activeElement);
    body.replaceChildren(part);
    const current = cellAt(...focus) || cellAt(first, 0);
    if (current) current.tabIndex = 0;
    if (held && cellAt(...focus)) cellAt(...focus).focus({preventScroll: true});
  }

  function drawRow(row, at) {
    const many = row.number !== undefined;
    const name = element("div", {class: "name"}, element("span", {}, row.label),
      many ? element("small", {}, `${opened.has(row.number) ? "▾" : "▸"} ${row.shown}`) : null);
    const silent = row.status !== "ok";
    const made = element("tr", {"aria-rowindex": at + 2, class: row.member ? "member" : null},
      element("th", {
        class: "host", scope: "row", tabindex: -1, title: many ? `${plural(row.shown, "host")} alike: ${row.label}` : row.label,
        "data-row": at, "data-column": 0, "aria-expanded": many ? String(opened.has(row.number)) : null,
      }, element("div", {class: "line"}, name,
        element("span", {class: `number ${row.problems ? "bad" : "none"}`}, silent ? "–" : String(row.problems)),
        element("span", {class: "number space"}, silent ? row.status : size(row.space)))));
    columns.forEach((image, column) => {
      const state = stateOf[row.states[image]];
      const label = `${row.label}, ${fleet.images[image].reference}: ${state}`;
      const cell = document.createElement("td");
      cell.className = `s-${state}`;
      cell.textContent = symbols[state];
      cell.title = label;
      cell.setAttribute("aria-label", label);
      cell.tabIndex = -1;
      cell.dataset.row = at;
      cell.dataset.column = column + 1;
      if (selected && selected[0] === row.label && selected[1] === image) cell.setAttribute("aria-selected", "true");
      made.append(cell);
    });
    return made;
  }

  const cellAt = (row, column) => matrix.querySelector(`[data-row="${row}"][data-column="${column}"]`);

  function move(row, column) {
    row = Math.max(-1, Math.min(rows.length - 1, row));
    column = Math.max(row < 0 ? 1 : 0, Math.min(columns.length, column));
    const before = cellAt(...focus);
    if (before) before.tabIndex = -1;
    focus = [row, column];
    if (row >= 0) {  // below the header, above the end
      const height = head.offsetHeight, top = row * rowHeight;
      if (top < matrix.scrollTop) matrix.scrollTop = top;
      if (top + rowHeight + height > matrix.scrollTop + matrix.clientHeight)
        matrix.scrollTop = top + rowHeight + height - matrix.clientHeight;
      fill();
    }
    const cell = cellAt(row, column);
    if (!cell) return;
    const edge = table.querySelector(".corner").offsetWidth;
    if (column && cell.offsetLeft - edge < matrix.scrollLeft) matrix.scrollLeft = cell.offsetLeft - edge;
    if (cell.offsetLeft + cell.offsetWidth > matrix.scrollLeft + matrix.clientWidth)
      matrix.scrollLeft = cell.offsetLeft + cell.offsetWidth - matrix.clientWidth;
    cell.tabIndex = 0;
    cell.focus({preventScroll: true});
  }

  // --- the panel

  function facts(pairs) {
    const list = element("dl");
    for (const [name, value, plain] of pairs)
      if (value !== null && value !== undefined && value !== "")
        list.append(element("dt", {}, name), element("dd", {}, plain ? String(value) : element("code", {}, String(value))));
    return list;
  }

  const badge = state => element("i", {class: `s-${state}`, "aria-hidden": "true"}, symbols[state]);
  const saying = state => element("p", {}, badge(state), ` ${state}: ${meanings[state]}.`);

  function show(title, under, ...parts) {
    const close = element("button", {type: "button", class: "close", "aria-label": "Close"}, "✕");
    close.addEventListener("click", hide);
    detail.replaceChildren(close, element("h3", {}, title), element("p", {class: "under"}, under), ...parts);
    detail.hidden = false;
    detail.scrollTop = 0;
  }

  function hide() {
    detail.hidden = true;
    selected = null;
    for (const cell of matrix.querySelectorAll("[aria-selected]")) cell.removeAttribute("aria-selected");
    const cell = cellAt(...focus);
    if (cell) cell.focus({preventScroll: true});
  }

  function showCell(row, at) {
    const image = fleet.images[at], host = fleet.hosts[row.at], state = stateOf[row.states[at]];
    const parts = host.files[at].map(([letter, number, built, updated]) => {
      const [platform, builtFrom, sha256, bytes, path] = image.files[number];
      const current = image.current.find(each => each.platform === platform);
      return facts([
        ["state", stateOf[letter], true],
        ["path", path === null ? null : whole(host.storage, image.paths[path])],
        ["size", path === null ? null : `${size(bytes)} (${bytes.toLocaleString("en")} bytes)`, true],
        ["platform", platform, true],
        ["built from", builtFrom === null ? null : image.digests[builtFrom]],
        ["current", current.manifest_digest],
        ["SHA-256", sha256],
        ["most have", stateOf[letter] === "different" ? current.sha256 : null],
        [path === null ? "recorded" : "built", when(built), true],
        ["updated", when(updated), true],
      ]);
    });
    const others = image.exceptions.find(each => each.state === state);
    if (others) parts.push(facts([[`${state} on`, others.hosts, true]]));
    if (row.members.length > 1) parts.push(element("p", {class: "under"}, `Times are those of ${host.name}.`));
    show(image.reference, row.label, saying(state), ...parts);
  }

  function showHost(row) {
    const host = fleet.hosts[row.at], parts = [];
    if (row.status !== "ok") parts.push(element("p", {}, badge("unknown"), ` ${host.status}: ${host.message}`));
    parts.push(facts([
      ["alike", row.members.length > 1 ? plural(row.members.length, "host") : null, true],
      ["store", host.storage],
      ["space", row.status === "ok" ? size(host.space) + (row.members.length > 1 ? " on each" : "") : null, true],
      ["oldest file", Number.isFinite(row.oldest) ? when(row.oldest) : null, true],
    ]));
    for (const state of fleet.problems) {
      const names = fleet.images.filter((_image, at) => row.states[at] === letterOf[state]).map(image => image.reference);
      if (names.length) parts.push(facts([[state, names.join(", "), true]]));
    }
    show(row.label, row.members.length > 1 ? "Click the row again to fold or unfold it." : "Host", ...parts);
  }

  function showImage(at) {
    const image = fleet.images[at];
    const parts = image.current.map(current => facts([
      ["platform", current.platform, true],
      ["current", current.manifest_digest],
      ["name points at", current.digest === current.manifest_digest ? null : current.digest],
      ["known", current.given ? "as given to this report" : current.updated_at && `newest entry of any host, ${current.updated_at}`, true],
      ["most have", current.sha256],
    ]));
    parts.push(facts(Object.entries(image.counts).filter(([, count]) => count)
      .map(([state, count]) => [state, plural(count, "host"), true])));
    parts.push(facts([["files", image.variants, true], ["size", size(image.size), true], ["all files", size(image.space), true]]));
    for (const each of image.exceptions) parts.push(facts([[each.state, each.hosts, true]]));
    show(image.reference, image.expected === false ? "Extra: it is not among the expected images" : "Image", ...parts);
  }

  function open(row, column) {
    const shown = rows[row], image = columns[column - 1];
    for (const cell of matrix.querySelectorAll("[aria-selected]")) cell.removeAttribute("aria-selected");
    selected = null;
    if (row < 0) showImage(image);
    else if (column) {
      selected = [shown.label, image];
      const cell = cellAt(row, column);
      if (cell) cell.setAttribute("aria-selected", "true");
      showCell(shown, image);
    } else {
      showHost(shown);
      if (shown.number !== undefined) {
        if (!opened.delete(shown.number)) opened.add(shown.number);
        choose();
        const cell = cellAt(...focus);
        if (cell) cell.focus({preventScroll: true});
      }
    }
  }

  // --- what the user does

  matrix.addEventListener("click", event => {
    const cell = event.target.closest("[data-row]");
    if (!cell) return;
    const [row, column] = [Number(cell.dataset.row), Number(cell.dataset.column)];
    move(row, column);
    open(row, column);
  });
  matrix.addEventListener("keydown", event => {
    const [row, column] = focus;
    const page = Math.max(1, Math.floor((matrix.clientHeight - head.offsetHeight) / rowHeight) - 1);
    const steps = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      PageUp: [Math.max(0, row - page), column], PageDown: [row + page, column], Home: [row, 0], End: [row, columns.length],
    };
    if (steps[event.key]) move(...steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") open(row, column);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape" && !detail.hidden) hide();
  });
  let waiting = false;
  matrix.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; fill(); });
  }, {passive: true});
  for (const input of [hostFilter, imageFilter, sort, grouped]) input.addEventListener("input", choose);
  for (const chip of document.querySelectorAll(".chip")) {
    const letter = letterOf[chip.dataset.state];
    chip.addEventListener("click", () => {
      if (!pressed.delete(letter)) pressed.add(letter);
      chip.setAttribute("aria-pressed", String(pressed.has(letter)));
      matrix.scrollTo(0, 0);
      choose();
    });
  }
  addEventListener("beforeprint", () => { if (rows.length && columns.length) fill(true, true); });
  addEventListener("afterprint", () => { if (rows.length && columns.length) fill(true); });

  // --- the table of images can be sorted

  const list = byId("images");
  [...list.tHead.rows[0].cells].forEach((heading, column) => {
    const button = element("button", {type: "button"}, ...heading.childNodes);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const numbers = heading.classList.contains("number");
      const down = heading.getAttribute("aria-sort") === (numbers ? null : "ascending");
      for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      list.tBodies[0].append(...[...list.tBodies[0].rows].sort(
        (a, b) => (down ? -1 : 1) * natural(value(a), value(b))));
    });
  });

  byId("fleet").hidden = false;
  grouped.checked = groups.length < hosts.length;
  choose();
  requestAnimationFrame(() => requestAnimationFrame(() => performance.mark("shown")));
})();
