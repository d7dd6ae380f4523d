/* What the theme and Sphinx leave undone for keyboards and screen readers. */
document.addEventListener('DOMContentLoaded', () => {
  const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
  // a name that leaves out the visible words; the words themselves are the better name
  all('.search-button-field', e => e.removeAttribute('aria-label'));
  all('.theme-switch-button [title]', e => { e.removeAttribute('title'); e.setAttribute('aria-hidden', 'true'); });
  all('.sidebar-primary-items__start', e => {
    e.setAttribute('role', 'navigation');
    e.setAttribute('aria-label', 'Book');
  });
  all('.citation-list, .citation-list > [role], .citation-list a[role]', e => e.removeAttribute('role'));
  all('th:empty', e => { e.outerHTML = e.outerHTML.replace(/^<th/, '<td').replace(/th>$/, 'td>'); });
  all('dl.field-list > dd, dl.field-list > dt', e => e.removeAttribute('role'));
  const narrow = () => all('span.math, div.math, .bd-content pre, .pst-scrollable-table-container', e => {
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'auto') e.tabIndex = 0;
  });
  (globalThis.MathJax?.startup?.promise ?? Promise.resolve()).then(narrow);
  addEventListener('load', () => globalThis.MathJax?.startup?.promise?.then(narrow));
});
