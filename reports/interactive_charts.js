// Draws the page's charts with Bokeh, in the page's light or dark colours, and as pictures for print.
"use strict";
(() => {
  const palette = JSON.parse(document.getElementById("chart-colours").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  const charts = [];

  const colourOf = (role, isDark) => palette[role][isDark ? 1 : 0];

  // Replaces every "var(--role)" by the palette's colour, and returns the places: [model id, property, role, is a spec].
  function coloured(node, isDark, found) {
    if (Array.isArray(node)) {
      for (const each of node) coloured(each, isDark, found);
    } else if (node !== null && typeof node === "object") {
      if (node.name === "Toolbar" && touch.matches) {
        node.attributes.active_drag = null; // a finger on a chart scrolls the page until a tool is chosen
      }
      for (const [key, value] of Object.entries(node.attributes ?? {})) {
        const isSpec = value !== null && typeof value === "object" && value.type === "value";
        const role = key.endsWith("color") ? /^var\(--(.+)\)$/.exec(isSpec ? value.value : value) : null;
        if (role === null) continue;
        const colour = colourOf(role[1], isDark);
        node.attributes[key] = isSpec ? { ...value, value: colour } : colour;
        found.push([node.id, key, role[1], isSpec]);
      }
      for (const each of Object.values(node)) coloured(each, isDark, found);
    }
    return found;
  }

  const plotsOf = (view) => (view.child_views.length ? view.child_views : [view]).filter((each) => each.renderer_views);

  // A tool that zooms in time fixes the height as well; release it, so that the visible part fills the chart.
  function fitHeight(plot) {
    if (plot.window_axis !== "x") return;
    plot.y_range.have_updated_interactively = false;
    plot.y_range.change.emit();
  }

  function recolour(isDark) {
    for (const { view, roles } of charts) {
      for (const [id, key, role, isSpec] of roles) {
        const colour = colourOf(role, isDark);
        view.model.document.get_model_by_id(id).setv({ [key]: isSpec ? { value: colour } : colour });
      }
      // Bokeh applies a curve's new colour with a delay, which is too late for a picture for print.
      for (const plot of plotsOf(view)) {
        for (const drawn of plot.renderer_views.values()) {
          drawn.glyph?.set_visuals(drawn.model.data_source, drawn.all_indices);
        }
      }
    }
  }

  // A canvas keeps the screen's width and colours; print replaces it with a light picture.
  function beforePrint() {
    if (dark.matches) recolour(false);
    for (const { view, target } of charts) {
      const picture = document.createElement("img");
      picture.className = "printed";
      picture.alt = target.getAttribute("aria-label");
      picture.width = view.bbox.width;
      picture.src = view.export("png").canvas.toDataURL();
      target.after(picture);
    }
  }

  function afterPrint() {
    for (const picture of document.querySelectorAll("img.printed")) picture.remove();
    if (dark.matches) recolour(true);
  }

  async function draw() {
    for (const source of document.querySelectorAll("script.chart-data")) {
      const item = JSON.parse(source.textContent);
      const target = document.getElementById(item.target_id);
      const roles = coloured(item.doc, dark.matches, []);
      const views = await Bokeh.embed.embed_item(item, target);
      const view = views.roots[0];
      for (const plot of plotsOf(view)) plot.model.on_event("rangesupdate", () => fitHeight(plot.model));
      charts.push({ view, target, roles });
    }
    dark.addEventListener("change", () => recolour(dark.matches));
    addEventListener("beforeprint", beforePrint);
    addEventListener("afterprint", afterPrint);
    document.documentElement.dataset.charts = String(charts.length);
  }

  draw();
})();
