/* Buttons above the ledger's table that keep the rows with one verdict. */
document.addEventListener('DOMContentLoaded', () => {
  const table = document.querySelector('section#what-is-claimed-and-where-it-is-checked table');
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const verdict = (row) => row.cells[3].textContent.trim();
  const bar = document.createElement('div');
  bar.className = 'verdicts';
  bar.setAttribute('role', 'group');
  bar.setAttribute('aria-label', 'Show claims by verdict');
  const buttons = ['all', ...new Set(rows.map(verdict))].map((word) => {
    const button = document.createElement('button');
    button.type = 'button';
    const count = word === 'all' ? rows.length : rows.filter((row) => verdict(row) === word).length;
    button.textContent = `${word} (${count})`;
    button.setAttribute('aria-pressed', word === 'all');
    button.addEventListener('click', () => {
      rows.forEach((row) => {
        row.hidden = word !== 'all' && verdict(row) !== word;
      });
      for (const b of buttons) b.setAttribute('aria-pressed', b === button);
    });
    return button;
  });
  bar.append(...buttons);
  (table.closest('.pst-scrollable-table-container') ?? table).before(bar);
});
