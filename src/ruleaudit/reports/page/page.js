"use strict";
// The filters. Without this script the page shows everything, and no filters.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const shown = document.getElementById("shown");
  const groups = new Map([...document.querySelectorAll(".group")].map((element) => [element.id, element]));
  const rows = [...document.querySelectorAll("tr[data-group]")];
  const findings = [...document.querySelectorAll(".finding")].map((element) => ({
    element, group: element.closest(".group").id, text: null,
    severity: element.dataset.severity, code: element.dataset.code, namespace: element.dataset.namespace,
  }));
  const nodes = document.getElementById("node");

  const textOf = (finding) => {
    if (finding.text === null) {
      finding.text = `${groups.get(finding.group).firstElementChild.textContent} ${finding.element.textContent}`.toLowerCase();
    }
    return finding.text;
  };

  // Each filter as it is set: its name, whether a finding passes it, and how it is cleared for that finding.
  const filters = () => {
    const boxes = [...form.querySelectorAll("[name=severity]")];
    const severities = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const choice = (field, passes) => ({
      name: field.parentElement.firstChild.textContent, fits: (finding) => !field.value || passes(finding, field.value), clear: () => { field.value = ""; },
    });
    return [
      {
        name: "severity", fits: (finding) => severities.has(finding.severity),
        clear: (finding) => { boxes.find((box) => box.value === finding.severity).checked = true; },
      },
      choice(form.elements.code, (finding, code) => finding.code === code),
      choice(form.elements.namespace, (finding, namespace) => finding.namespace === namespace),
      ...(nodes ? [choice(nodes, (finding, node) => finding.element.dataset.nodes.split(" ").includes(node))] : []),
      choice(form.elements.text, (finding) => words.every((word) => textOf(finding).includes(word))),
    ];
  };

  let waiting = 0;
  const apply = (note = "") => {
    clearTimeout(waiting); // what was asked for since is done with this
    const set = filters();
    const filled = new Set();
    let count = 0;
    for (const finding of findings) {
      const fits = set.every((filter) => filter.fits(finding));
      finding.element.hidden = !fits;
      if (fits) { count += 1; filled.add(finding.group); }
    }
    for (const [id, element] of groups) element.hidden = !filled.has(id);
    for (const row of rows) row.hidden = !filled.has(row.dataset.group);
    shown.textContent = `${count.toLocaleString("en")} of ${findings.length.toLocaleString("en")} findings shown${note}`;
  };

  const soon = () => { clearTimeout(waiting); waiting = setTimeout(() => apply(), 80); };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  form.addEventListener("reset", () => setTimeout(() => apply(), 0));
  const all = (open) => { for (const finding of findings) if (!finding.element.hidden) finding.element.open = open; };
  document.getElementById("open").addEventListener("click", () => all(true));
  document.getElementById("close").addEventListener("click", () => all(false));

  // Clear what hides a finding, or is about to, and say so.
  const reveal = (element) => {
    const finding = findings.find((one) => one.element === element);
    const hiding = filters().filter((filter) => !filter.fits(finding));
    if (!hiding.length) return;
    for (const filter of hiding) filter.clear(finding);
    apply(`; cleared to show this one: ${hiding.map((filter) => filter.name).join(", ")}`);
  };

  // A link to a finding opens it; one to a Service opens its first finding. Whether the address leads to either.
  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    const finding = target && (target.matches(".finding") ? target
      : target.matches(".group") && (target.querySelector(".finding:not([hidden])") || target.querySelector(".finding")));
    if (!finding) return false;
    reveal(finding);
    finding.open = true;
    finding.firstElementChild.focus({ preventScroll: true });
    target.scrollIntoView();
    return true;
  };
  addEventListener("hashchange", follow);
  // A link to where one already is changes nothing that would be told.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link && link.hash === location.hash && follow()) event.preventDefault();
  });

  form.hidden = false;
  apply();
  follow();
})();
