// Draws the charts, and makes tabs, choices, sortable tables and downloads work.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;
  root.classList.add("js");

  // Tabs: one page at a time, by click, arrow keys or address.
  const tabs = all("[role=tab]");
  const pages = all(".page");

  const showPage = (name) => {
    const shown = pages.some((page) => page.dataset.page === name) ? name : pages[0].dataset.page;
    for (const page of pages) page.classList.toggle("shown", page.dataset.page === shown);
    for (const tab of tabs) {
      const isShown = tab.dataset.page === shown;
      tab.setAttribute("aria-selected", String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
    }
  };

  // The address names no element, so that the browser does not scroll to it.
  const chooseTab = (tab) => {
    showPage(tab.dataset.page);
    history.replaceState(null, "", `#${tab.dataset.page}`);
    scrollTo(0, 0);
    tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  };

  for (const tab of tabs) {
    tab.addEventListener("click", (event) => {
      event.preventDefault();
      chooseTab(tab);
    });
    tab.addEventListener("keydown", (event) => {
      const place = tabs.indexOf(tab);
      const target = {
        ArrowRight: place + 1,
        ArrowLeft: place - 1,
        Home: 0,
        End: tabs.length - 1,
        " ": place,
      }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      const next = tabs[(target + tabs.length) % tabs.length];
      next.focus();
      chooseTab(next);
    });
  }
  addEventListener("hashchange", () => showPage(location.hash.slice(1)));
  showPage(location.hash.slice(1));

  // Charts: a Vega view each, made anew for other rows. Without rows there is only the sentence.
  const drawn = new Map();

  const legend = (spec) => {
    if (spec.usermeta === undefined) return [];
    const list = document.createElement("div");
    list.ariaHidden = "true";
    list.className = "legend";
    for (const { name, colour } of spec.usermeta.legend) {
      const item = document.createElement("span");
      item.textContent = name;
      item.style.setProperty("--colour", colour);
      list.append(item);
    }
    return [list];
  };

  const draw = async (id, { rows, spec }) => {
    drawn.get(id)?.finalize();
    drawn.delete(id);
    const frame = document.querySelector(`[data-chart="${CSS.escape(id)}"]`);
    frame.replaceChildren();
    frame.hidden = rows.length === 0;
    if (frame.hidden) return;
    // The frame speaks for the chart: Vega gives what it draws in a role and a name of its own.
    const drawing = document.createElement("div");
    drawing.ariaHidden = "true";
    frame.append(...legend(spec), drawing);
    spec.data.find((source) => source.name === "rows").values = rows;
    const result = await vegaEmbed(drawing, spec, {
      actions: false,
      ast: true, // interpreted, because the policy forbids code made from text
      defaultStyle: false,
      mode: "vega",
      renderer: "svg",
      tooltip: { disableDefaultStyle: true },
    });
    drawn.set(id, result);
  };

  const drawAll = async () => {
    const containers = all("[data-chart]");
    const shown = containers.filter((container) => container.closest(".page.shown"));
    for (const container of new Set([...shown, ...containers])) {
      const id = container.dataset.chart;
      await draw(id, data.charts[id]);
    }
    root.dataset.state = "ready";
    root.dataset.height = String(root.scrollHeight);
  };

  // Choices: what changes was computed with the report; here it is only put in place. A choice of
  // several controls has the keys of all of them, joined.
  const byPage = (id) => document.getElementById(`page-${id}`);
  const scopeOf = ({ page, figure }) =>
    page === undefined ? document.getElementById(`figure-${figure}`) : byPage(page);

  const showRows = (choice, keys) => {
    const key = keys.slice(0, choice.grouping).join("|");
    for (const row of all("[data-group]", scopeOf(choice))) {
      row.hidden = key !== "" && row.dataset.group !== key;
    }
  };

  const applyChoice = (choiceId, keys) => {
    const choice = data.choices[choiceId];
    const patch = choice.patches[keys.join("|")];
    const scope = scopeOf(choice);
    for (const [id, text] of Object.entries(patch.leads)) {
      const lead = scope.querySelector(`[data-lead="${id}"]`);
      lead.textContent = text;
      lead.hidden = text === "";
    }
    for (const [id, texts] of Object.entries(patch.cards)) {
      const card = scope.querySelector(`[data-card="${choice.page}-${id}"]`);
      const value = card.querySelector(".value");
      value.textContent = texts.value;
      value.title = texts.exact;
      card.querySelector(".note").textContent = texts.note;
      const change = card.querySelector(".change");
      if (change) change.hidden = !texts.hasChange;
    }
    showRows(choice, keys);
    const charts = Object.entries(patch.charts).map(([id, chart]) => {
      document.getElementById(`sentence-${id}`).textContent = chart.sentence;
      return draw(id, { ...data.charts[id], ...chart });
    });
    return Promise.all(charts);
  };

  const chosen = (choiceId) =>
    all(`[data-choice="${CSS.escape(choiceId)}"]`).map((control) =>
      control.matches("select") ? control.value : control.querySelector("[aria-pressed=true]").value,
    );

  // One after the other, so that the last choice stands, however fast the reader is.
  let work = Promise.resolve();
  const setChoice = (choiceId) => {
    const keys = chosen(choiceId);
    root.dataset.state = "busy";
    work = work.then(() => applyChoice(choiceId, keys)).then(() => {
      root.dataset.state = "ready";
    });
  };

  for (const select of all("select[data-choice]")) {
    select.addEventListener("change", () => setChoice(select.dataset.choice));
  }
  for (const group of all(".segmented[data-choice]")) {
    const buttons = all("button", group);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        setChoice(group.dataset.choice);
      });
    }
  }

  // Tables: a click on a header sorts by it, a second click turns the order; no value comes last.
  const cellKey = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.sort === undefined) {
      return cell.className ? cell.textContent : Number(cell.textContent.replaceAll(",", ""));
    }
    if (cell.dataset.sort === "") return null;
    return cell.classList.contains("date") ? cell.dataset.sort : Number(cell.dataset.sort);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en"));

  for (const table of all("table")) {
    const headers = all("thead th", table);
    headers.forEach((header, column) => {
      header.querySelector("button").addEventListener("click", () => {
        const isNumeric = !["text", "flag", "date"].some((kind) => header.classList.contains(kind));
        const first = isNumeric ? "descending" : "ascending";
        const second = isNumeric ? "ascending" : "descending";
        const order = header.getAttribute("aria-sort") === first ? second : first;
        for (const other of headers) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const body = table.tBodies[0];
        const keyed = [...body.rows].map((row) => [cellKey(row, column), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return sign * compare(a, b);
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  for (const button of all("[data-csv]")) {
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      const text = new Blob([data.csv[button.dataset.csv]], { type: "text/csv;charset=utf-8" });
      link.href = URL.createObjectURL(text);
      link.download = `${button.dataset.csv}.csv`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  }

  const start = async () => {
    for (const choice of Object.values(data.choices)) showRows(choice, choice.first);
    await drawAll();
  };
  work = start();
})();
