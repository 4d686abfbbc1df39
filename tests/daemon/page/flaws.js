// What a screen reader could not name, and other flaws of the structure.
() => {
  const found = [];
  const named = (node) =>
    node.getAttribute("aria-label") || node.labels?.[0]?.textContent.trim() || node.textContent.trim() ||
    document.getElementById(node.getAttribute("aria-labelledby") ?? "")?.textContent;
  for (const node of document.querySelectorAll("a, button, input, select, textarea, progress, [role=img], [role=region], dialog")) {
    if (node.checkVisibility() && !named(node)) found.push(`no name: ${node.outerHTML.slice(0, 80)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  found.push(...ids.filter((id, i) => ids.indexOf(id) !== i).map((id) => `twice: #${id}`));
  for (const node of document.querySelectorAll("[aria-describedby], label[for]")) {
    for (const id of (node.getAttribute("aria-describedby") ?? node.getAttribute("for")).split(" ")) {
      if (!document.getElementById(id)) found.push(`leads nowhere: ${id}`);
    }
  }
  const heads = [...document.querySelectorAll("h1, h2, h3")].filter((node) => node.checkVisibility()).map((node) => Number(node.tagName[1]));
  if (heads.filter((level) => level === 1).length !== 1) found.push("not one h1");
  heads.forEach((level, i) => i > 0 && level > heads[i - 1] + 1 && found.push(`h${heads[i - 1]} then h${level}`));
  for (const mark of ["main", "nav", "header"]) if (document.querySelectorAll(mark).length !== 1) found.push(`not one ${mark}`);
  if (!document.documentElement.lang) found.push("no language");
  return found;
}
