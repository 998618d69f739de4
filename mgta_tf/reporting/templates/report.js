"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const read = (id) => JSON.parse($(id).textContent);
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const narrow = matchMedia("(max-width: 600px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // ------------------------------------------------------------------------------------ Figures

  function themed(layout) {
    const axis = { gridcolor: token("--grid"), zerolinecolor: token("--grid"), linecolor: token("--line"), tickcolor: token("--line") };
    const out = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, Segoe UI, Roboto, Liberation Sans, sans-serif", size: 12, color: token("--text") },
      hoverlabel: { bgcolor: token("--panel"), bordercolor: token("--line"), font: { color: token("--text") } },
      dragmode: narrow.matches ? false : layout.dragmode || "zoom",
    };
    for (const key of ["xaxis", "yaxis", ...Object.keys(layout)]) {
      if (/^[xy]axis\d*$/.test(key)) out[key] = { ...layout[key], ...axis };
    }
    return out;
  }

  const plots = {};
  function draw(name) {
    const place = $("plot-" + name);
    if (!place) return null;
    const { data, layout } = (plots[name] ||= read("data-" + name));
    Plotly.react(place, data, themed(layout), { responsive: true, displaylogo: false, displayModeBar: false });
    return place;
  }
  const names = ["losses", "sizes", "agreement", "map", "flows", "probe"];
  names.forEach(draw);
  dark.addEventListener("change", () => names.forEach(draw));

  // -------------------------------------------------------------------------- Labels to choose from

  const labelling = $("labelling");
  if (labelling) {
    labelling.closest("label").hidden = false;
    const show = () => document.querySelectorAll("[data-labelling]").forEach((one) => {
      one.hidden = one.dataset.labelling !== labelling.value;
    });
    labelling.addEventListener("change", show);
    show();
  }

  // ------------------------------------------------------------------------------------ Members

  if (!$("data-members")) return;
  const members = read("data-members");
  const clusters = new Map();
  const kind = members.kind, Kind = kind[0].toUpperCase() + kind.slice(1);
  members.label.forEach((label, row) => {
    if (!clusters.has(label)) clusters.set(label, { label, rows: [], size: members.sizes[label] });
    clusters.get(label).rows.push(row);
  });
  for (const one of clusters.values()) {
    const sum = one.rows.reduce((total, row) => total + members.distance[row], 0);
    one.spread = one.rows.length > 1 ? sum / one.rows.length : Infinity;
  }

  /** Shows image `row` of the sheet in an element of `size` pixels. */
  function paint(element, row, size) {
    const column = row % members.columns, line = Math.floor(row / members.columns);
    element.style.backgroundSize = members.columns * size + "px";
    element.style.backgroundPosition = `-${column * size}px -${line * size}px`;
  }
  function thumb(row, size, label) {
    const element = document.createElement("span");
    element.className = "thumb";
    element.style.width = element.style.height = size + "px";
    if (label) { element.setAttribute("role", "img"); element.setAttribute("aria-label", label); }
    paint(element, row, size);
    return element;
  }
  function text(tag, words) {
    const element = document.createElement(tag);
    element.textContent = words;
    return element;
  }
  /** Image `row` as a button that shows its nearest neighbors. */
  function photo(row, size) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "photo";
    button.dataset.row = row;
    button.setAttribute("aria-label", `${members.name[row]}: nearest neighbors`);
    button.setAttribute("aria-haspopup", "dialog");
    button.append(thumb(row, size));
    button.addEventListener("click", () => openNeighbors(row));
    return button;
  }
  function captioned(row, size) {
    const item = document.createElement("li");
    item.append(photo(row, size), text("span", members.name[row]));
    if (members.classes) item.append(document.createElement("br"), members.classes[row]);
    return item;
  }
  const images = (count) => (count === 1 ? "1 image" : `${count.toLocaleString("en")} images`);

  function open(label) {
    const one = clusters.get(label);
    if (!one) return;
    $("members-title").textContent = `${Kind} ${label}`;
    const all = one.rows.length === one.size;
    $("members-about").textContent = (all ? `All ${images(one.size)}` : `${one.rows.length} of its ${images(one.size)}`) +
      ", from the nearest to the centroid to the farthest.";
    show(one.rows);
  }
  function openNeighbors(row) {
    const [label, name] = [members.label[row], members.name[row]];
    $("members-title").textContent = "Nearest neighbors";
    const back = text("button", `${Kind} ${label}`);
    back.type = "button";
    back.addEventListener("click", () => open(label));
    const near = members.neighbors[row];
    $("members-about").replaceChildren(`${name}, then the images nearest to it among the ${images(members.label.length)} of this page. It belongs to `, back);
    show([row, ...near]);
  }
  function show(rows) {
    $("members-list").replaceChildren(...rows.map((row) => captioned(row, 80)));
    if (!$("members").open) $("members").showModal();
    $("members").scrollTop = 0;
  }
  $("members").addEventListener("keydown", (event) => { if (event.key === "Escape") $("members").close(); });
  $("members").addEventListener("click", (event) => { if (event.target === $("members")) $("members").close(); });

  // A few photographs with their neighbors.
  $("queries").replaceChildren(...members.queries.map((row) => {
    const line = document.createElement("div");
    line.className = "query";
    const near = document.createElement("ul");
    near.className = "thumbs";
    near.append(...members.neighbors[row].map((other) => {
      const item = document.createElement("li");
      const button = photo(other, narrow.matches ? 72 : 60);
      button.tabIndex = -1; // the keyboard reaches it by way of its query
      item.append(button);
      return item;
    }));
    const query = document.createElement("div");
    query.append(photo(row, 84));
    line.append(query, near);
    return line;
  }));

  // One button for each cluster.
  const FIRST = narrow.matches ? 12 : 24;
  const orders = {
    largest: (a, b) => b.size - a.size || a.label - b.label,
    smallest: (a, b) => a.size - b.size || a.label - b.label,
    tightest: (a, b) => a.spread - b.spread,
  };
  let everything = false;
  function list() {
    const sorted = [...clusters.values()].sort(orders[$("order").value]);
    const shown = everything ? sorted : sorted.slice(0, FIRST);
    $("cluster-list").replaceChildren(...shown.map((one) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.cluster = one.label;
      button.setAttribute("aria-haspopup", "dialog");
      const row = document.createElement("span");
      row.className = "row";
      row.append(...one.rows.slice(0, 3).map((r) => thumb(r, 48)));
      button.append(row, text("strong", `${Kind} ${one.label}`), document.createElement("br"), text("small", images(one.size)));
      button.addEventListener("click", () => open(one.label));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }));
    $("more").hidden = everything || sorted.length <= FIRST;
    $("more").textContent = `Show all ${sorted.length} ${kind}s`;
  }
  $("order").addEventListener("change", list);
  $("more").addEventListener("click", () => {
    everything = true;
    list();
    $("cluster-list").children[FIRST].firstChild.focus();
  });
  list();
  $("plot-sizes").on("plotly_click", (event) => open(event.points[0].customdata));

  // ---------------------------------------------------------------------------------------- Map

  const place = $("plot-map");
  const kinds = members.classes && [...new Set(members.classes)].sort();
  const hue = (index) => `hsl(${(index * 137.5) % 360} 62% ${dark.matches ? 62 : 46}%)`;
  function colors() {
    const by = $("color") ? $("color").value : "cluster";
    const chosen = $("highlight").value;
    const faint = dark.matches ? "#3a4550" : "#d3d9e0";
    return members.label.map((label, row) => {
      if (chosen !== "" && label !== Number(chosen)) return faint;
      return hue(by === "class" ? kinds.indexOf(members.classes[row]) : label);
    });
  }
  const recolor = () => Plotly.restyle(place, { "marker.color": [colors()], "marker.size": narrow.matches ? 5 : 7 });
  [...clusters.keys()].sort((a, b) => a - b).forEach((label) => {
    $("highlight").append(new Option(`${kind} ${label}`, label));
  });
  [$("color"), $("highlight")].forEach((control) => control && control.addEventListener("change", recolor));
  dark.addEventListener("change", recolor);
  recolor();

  const hover = $("hover");
  place.on("plotly_hover", (event) => {
    const row = event.points[0].pointIndex, { clientX, clientY } = event.event;
    paint(hover.firstElementChild, row, 112);
    const words = [`${kind} ${members.label[row]}`, members.name[row]];
    if (members.classes) words.splice(1, 0, members.classes[row]);
    hover.lastElementChild.replaceChildren(...words.map((word) => { const p = text("span", word); p.style.display = "block"; return p; }));
    hover.hidden = false;
    const box = hover.getBoundingClientRect();
    hover.style.left = Math.max(4, Math.min(clientX + 14, innerWidth - box.width - 4)) + "px";
    hover.style.top = Math.max(4, Math.min(clientY + 14, innerHeight - box.height - 4)) + "px";
  });
  place.on("plotly_unhover", () => { hover.hidden = true; });
  place.on("plotly_click", (event) => { hover.hidden = true; openNeighbors(event.points[0].pointIndex); });
})();
