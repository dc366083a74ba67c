"use strict";

// Pictures open large; arrow keys, or taps at the sides, go through the pictures of one image, and
// a tap in the middle closes.
const viewer = document.getElementById("viewer");
if (viewer) {
  let row = [];
  let at = 0;
  const show = (next) => {
    at = (next + row.length) % row.length;
    viewer.querySelector("img").src = row[at].src;
    viewer.querySelector("p").textContent = `${row[at].alt} (${at + 1} of ${row.length})`;
    if (!viewer.open) viewer.showModal();
  };
  for (const picture of document.querySelectorAll(".row img")) {
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    const open = () => {
      row = [...picture.closest(".row").querySelectorAll("img")];
      show(row.indexOf(picture));
    };
    picture.addEventListener("click", open);
    picture.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open();
      }
    });
  }
  viewer.addEventListener("click", (event) => {
    const place = event.clientX / viewer.clientWidth;
    if (row.length > 1 && place < 0.25) show(at - 1);
    else if (row.length > 1 && place > 0.75) show(at + 1);
    else viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
}

// A click on a heading sorts a table by that column, a second click turns the order round.
const number = (text) => {
  const value = parseFloat(text.replace(/,/g, "").replace("−", "-"));
  return Number.isNaN(value) ? -Infinity : value;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    head.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...original];
      if (column > 0) {
        const value = (row) => number(row.cells[column].textContent);
        rows.sort((a, b) => (falling ? value(b) - value(a) : value(a) - value(b)) || 0);
      } else if (!falling) {
        rows.reverse();
      }
      body.append(...rows);
    });
  }
}
