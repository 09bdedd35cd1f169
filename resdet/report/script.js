"use strict";
// Sorts the rows of a table by the column of a clicked header; cells without a value come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => ({ row, key: keyOf(row.cells[column]) }));
    const sign = down ? -1 : 1;
    rows.sort((a, b) => (a.key === null) - (b.key === null) || sign * compare(a.key, b.key));
    body.append(...rows.map((each) => each.row));
  }));
}
function keyOf(cell) {
  if (!cell.classList.contains("number")) return cell.textContent;
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}
function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
// Hides the rows of a table that do not contain the words of its filter.
for (const input of document.querySelectorAll("input.filter")) {
  const rows = [...input.parentElement.querySelectorAll("tbody tr")];
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
}
// Shows and hides a layer of the pictures of a gallery.
for (const box of document.querySelectorAll(".toggles input")) {
  box.addEventListener("change", () => box.closest(".gallery").classList.toggle(`hide${box.dataset.layer}`, !box.checked));
}
