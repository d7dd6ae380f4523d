/* What the theme and Sphinx leave undone for keyboards and screen readers. */
document.addEventListener('DOMContentLoaded', () => {
  const all = (selector, act) => document.querySelectorAll(selector).forEach(act);
  // a name that leaves out the visible words; the words themselves are the better name
  all('.search-button-field', (e) => e.removeAttribute('aria-label'));
  all('.theme-switch-button', (button) => {
    // it has a name already, and its icons become drawings with names of their own, some time after the page has loaded
    const hide = () =>
      button.querySelectorAll('svg').forEach((e) => {
        e.querySelector('title')?.remove();
        e.removeAttribute('role');
        e.removeAttribute('aria-labelledby');
        e.setAttribute('aria-hidden', 'true');
      });
    hide();
    new MutationObserver(hide).observe(button, { childList: true });
  });
  all('.sidebar-primary-items__start', (e) => {
    e.setAttribute('role', 'navigation');
    e.setAttribute('aria-label', 'Book');
  });
  all('.citation-list, .citation-list > [role], .citation-list a[role]', (e) => e.removeAttribute('role'));
  all('th', (e) => {
    if (!e.textContent.trim()) e.replaceWith(document.createElement('td'));
  });
  all('dt.sig dl', (list) => {
    // the lines of a long signature, which define nothing
    const lines = [...list.children].map((item) => {
      const line = document.createElement('div');
      line.style.marginLeft = '2rem';
      line.append(...item.childNodes);
      return line;
    });
    const box = document.createElement('div');
    box.append(...lines);
    list.replaceWith(box);
  });
  const fit = (formula, room, least) => {
    // on a narrow screen one that is wider than its column is set smaller, as far as it can still be read
    formula.dataset.size ??= formula.style.fontSize; // its own, whatever it was fitted to before
    const [own, now] = [formula.dataset.size, formula.style.fontSize].map(parseFloat);
    const share = ((room - 1) / formula.querySelector('mjx-math').getBoundingClientRect().width) * (now / own);
    formula.style.fontSize = `${own * Math.min(1, Math.max(least, share))}%`;
    return share >= least;
  };
  const narrow = () => {
    if (innerWidth <= 600) {
      all('span.math > mjx-container', (e) => {
        const fits = fit(e, e.closest('p, li, td, section').clientWidth, 0.6);
        e.parentElement.classList.toggle('wide', !fits);
      });
      all('div.math > mjx-container', (e) => fit(e, e.parentElement.clientWidth, 0.55));
    }
    all('span.math, div.math, mjx-container, dt.sig, .bd-content pre, .pst-scrollable-table-container, figure', (e) => {
      if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible') e.tabIndex = 0;
    });
  };
  const named = () =>
    all('th:has(mjx-container)', (e) => {
      // a formula alone is no name to everyone
      const words = document.createElement('span');
      words.className = 'visually-hidden';
      words.textContent = e.textContent.trim();
      e.prepend(words);
    });
  addEventListener('load', () =>
    globalThis.MathJax?.startup?.promise?.then(() => {
      narrow();
      named();
      addEventListener('toggle', narrow, true); // of folds, which hold formulas too
      all('figure > img', (e) => e.addEventListener('load', narrow)); // pictures come when they are reached
    }),
  );
});
