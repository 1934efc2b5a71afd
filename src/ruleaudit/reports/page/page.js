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

  const apply = () => {
    const severities = new Set([...form.querySelectorAll("[name=severity]:checked")].map((box) => box.value));
    const code = form.elements.code.value;
    const namespace = form.elements.namespace.value;
    const node = nodes ? nodes.value : "";
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const filled = new Set();
    let count = 0;
    for (const finding of findings) {
      const fits = severities.has(finding.severity)
        && (!code || finding.code === code)
        && (!namespace || finding.namespace === namespace)
        && (!node || finding.element.dataset.nodes.split(" ").includes(node))
        && words.every((word) => textOf(finding).includes(word));
      finding.element.hidden = !fits;
      if (fits) { count += 1; filled.add(finding.group); }
    }
    for (const [id, element] of groups) element.hidden = !filled.has(id);
    for (const row of rows) row.hidden = !filled.has(row.dataset.group);
    shown.textContent = `${count.toLocaleString("en")} of ${findings.length.toLocaleString("en")} findings shown`;
  };

  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(apply, 80); };
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  form.addEventListener("reset", () => setTimeout(apply, 0));
  const all = (open) => { for (const finding of findings) if (!finding.element.hidden) finding.element.open = open; };
  document.getElementById("open").addEventListener("click", () => all(true));
  document.getElementById("close").addEventListener("click", () => all(false));

  // A link to a finding opens it; one to a Service opens its first finding.
  const follow = () => {
    const target = document.getElementById(location.hash.slice(1));
    const finding = target && (target.matches(".finding") ? target : target.matches(".group") && target.querySelector(".finding:not([hidden])"));
    if (!finding) return;
    finding.open = true;
    finding.firstElementChild.focus({ preventScroll: true });
    target.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  follow();

  form.hidden = false;
  apply();
})();
