/* What the theme and Sphinx leave undone for keyboards and screen readers. */
document.addEventListener('DOMContentLoaded', () => {
  const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
  // a name that leaves out the visible words; the words themselves are the better name
  all('.search-button-field', e => e.removeAttribute('aria-label'));
  addEventListener('load', () => all('.theme-switch-button svg', e => { // the button has a name already
    e.querySelector('title')?.remove();
    e.removeAttribute('role');
    e.removeAttribute('aria-labelledby');
    e.setAttribute('aria-hidden', 'true');
  }));
  all('.sidebar-primary-items__start', e => {
    e.setAttribute('role', 'navigation');
    e.setAttribute('aria-label', 'Book');
  });
  all('.citation-list, .citation-list > [role], .citation-list a[role]', e => e.removeAttribute('role'));
  all('th', e => {
    if (!e.textContent.trim()) e.replaceWith(document.createElement('td'));
  });
  all('dl.field-list > dd, dl.field-list > dt', e => e.removeAttribute('role'));
  const narrow = () => all('span.math, div.math, mjx-container, .bd-content pre, .pst-scrollable-table-container', e => {
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible') e.tabIndex = 0;
  });
  (globalThis.MathJax?.startup?.promise ?? Promise.resolve()).then(narrow);
  addEventListener('load', () => globalThis.MathJax?.startup?.promise?.then(narrow));
});
