/* The page comes with every fold open, for print and for readers without JavaScript. Here they close, except where a
   link leads into one, and a switch, remembered, opens them all. */
(() => {
  const KEY = 'show-everything';
  const remembered = () => {
    try {
      return localStorage.getItem(KEY) === 'yes';
    } catch {
      return false;
    }
  };
  const remember = (yes) => {
    try {
      localStorage.setItem(KEY, yes ? 'yes' : 'no');
    } catch {
      /* for this page only */
    }
  };
  const folds = () => document.querySelectorAll('details.fold');
  let everything = remembered();

  function reveal(element) {
    // and all that encloses it
    for (let el = element; el; el = el.parentElement) if (el.tagName === 'DETAILS') el.open = true;
  }
  function arrive() {
    const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    if (!target?.closest('details')) return;
    reveal(target);
    target.scrollIntoView();
  }
  function show(all) {
    everything = all;
    folds().forEach((d) => {
      d.open = all;
    });
  }
  function addSwitch() {
    const bar = document.querySelector('.article-header-buttons'),
      heading = document.querySelector('article h1');
    if (!bar || !heading || !folds().length) return;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'btn btn-sm fold-switch';
    button.textContent = 'Show everything';
    button.title = 'Open all proofs, checks and code on every page';
    button.setAttribute('aria-pressed', everything);
    button.addEventListener('click', () => {
      show(!everything);
      remember(everything);
      button.setAttribute('aria-pressed', everything);
    });
    if (matchMedia('(max-width: 600px)').matches)
      heading.after(button); // the bar has no room for it
    else bar.prepend(button);
  }

  document.documentElement.classList.add('folding'); // the style sheet hides what is about to close
  document.addEventListener('DOMContentLoaded', () => {
    show(everything);
    addSwitch();
    document.documentElement.classList.remove('folding');
    arrive();
  });
  addEventListener('hashchange', arrive);
  let before = [];
  addEventListener('beforeprint', () => {
    before = [...document.querySelectorAll('details')].map((d) => [d, d.open]);
    before.forEach(([d]) => {
      d.open = true;
    });
  });
  addEventListener('afterprint', () =>
    before.forEach(([d, open]) => {
      d.open = open;
    }),
  );
})();
