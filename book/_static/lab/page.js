/* The page: what is set, what follows from a change, the address and the program. */
(() => {
  const { settings } = sdelib;
  const { element } = sdelib.controls;
  const still = matchMedia('(prefers-reduced-motion: reduce)');

  /** Settings worth a look: names and addresses. */
  const INPAINTING = (run) => `${run}.solver=ancestral&${run}.known=x&${run}.value=0.9`;
  const TRIES = {
    'A face': '',
    'A learned face': 'compare=1&b.score=learned',
    'Noise or none': 'target=line&compare=1&b.solver=heun',
    'Ten steps': 'target=plane&compare=1&a.n_steps=10&b.solver=adams&b.n_steps=10',
    Guidance: 'target=plane&compare=1&a.label=1&b.label=1&b.scale=4',
    Inpainting: `target=plane&compare=1&${INPAINTING('a')}&${INPAINTING('b')}&b.corrector_steps=3`,
    'A wrong formula': 'target=line&compare=1&a.eta=0&b.eta=0&b.wrong=g_for_g_squared',
    'Two processes':
      'compare=1&a.score=learned&b.score=learned&a.solver=adams&b.solver=adams&b.process=FlowSDE&b.alpha_end=0.0066',
    Forward: 'direction=forward&compare=1&b.process=VESDE',
    Draw: 'target=drawing',
    Digits: 'target=digits&a.solver=adams&a.n_steps=20&a.label=5',
  };

  function build(root) {
    let state = settings.defaults();
    let redraw_editor = () => {};
    let hand = { chosen: 0 };
    const film = sdelib.film.film({ moved: write_address });
    const tries = element('div', { className: 'lab-tries', role: 'group', 'aria-label': 'Things to try' });
    const looks = element('div', { className: 'lab-looks' });
    const note = element('p', { className: 'lab-note', role: 'status' });
    const desk = element('div', { className: 'lab-desk' });
    const python = program();
    for (const [name, address] of Object.entries(TRIES)) {
      const button = element('button', { type: 'button' }, name);
      button.addEventListener('click', () => arrive(address));
      tries.append(button);
    }
    film.bar.append(copier('Copy link', link));
    root.replaceChildren(tries, film.stage, film.bar, looks, note, desk, python.box);

    function say(notes) {
      note.textContent = [...new Set(notes)].slice(0, 3).join('; ');
    }

    function fill() {
      redraw_editor = sdelib.desk.fill(desk, looks, state, hand, { set, change, say });
    }

    /** Set one setting of the page or of a run, and what has to follow. */
    function set(owner, name, value, notes) {
      const before = { ...owner };
      if (name === 'compare' && value) state.b = settings.rival(state.a);
      if (name === 'wrong') Object.assign(owner, settings.needed(owner, value));
      owner[name] = value;
      settings.settled(state, notes);
      if (name !== 'wrong' && owner.wrong !== before.wrong)
        notes.push('the wrong formula does not fit, and is taken out');
      say(notes);
      if (name === 'density' || name === 'arrows') {
        write_address();
        film.look();
        return;
      }
      change();
      const sliding = document.activeElement?.type === 'range' && desk.contains(document.activeElement);
      if (!sliding) fill(); // a slider stays where it is held
    }

    /** Begin the runs again, at the same place of the film. */
    function change() {
      settings.settled(state);
      root.classList.toggle('lab-two', state.compare);
      python.write(state);
      write_address();
      if (state.target !== 'digits' || sdelib.digits.loaded()) film.show(state);
      else fetch_digits();
    }

    function fetch_digits() {
      say(['the network that draws digits is on its way']);
      sdelib.digits.load().then(
        () => {
          say([]);
          if (state.target === 'digits') film.show(state);
        },
        (error) => say([`${error.message}; try again`]),
      );
    }

    /** Begin with the state of an address. */
    function arrive(address) {
      const found = settings.decode(address);
      state = found.state;
      hand = { chosen: 0 };
      const placed = /(^|&)at=/.test(address);
      change();
      fill();
      say(found.notes);
      if (placed || still.matches) film.go(state.at, false);
      else film.go(0, true);
    }

    function link() {
      const address = settings.encode({ ...state, at: film.at() });
      return location.href.split(/[?#]/)[0] + (address && `#${address}`);
    }

    let waiting = 0;
    function write_address() {
      // not at each frame of a drag: browsers limit how often
      clearTimeout(waiting);
      waiting = setTimeout(() => history.replaceState(null, '', link()), 300);
    }

    addEventListener('hashchange', () => {
      if (location.hash.includes('=')) arrive(location.hash.slice(1));
    });
    new MutationObserver(() => {
      film.look();
      redraw_editor();
    }).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    // a link from a chapter asks with `?`, since the theme takes each `#` there for a place in its own page
    arrive((location.hash || location.search).slice(1));
    sdelib.page = { TRIES, arrive, film, state: () => state };
  }

  /** A button that copies what `text` gives, and says whether it may. */
  function copier(words, text) {
    const button = element('button', { type: 'button' }, words);
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text());
        button.textContent = 'Copied';
      } catch {
        button.textContent = 'Not allowed here';
      }
      setTimeout(() => {
        button.textContent = words;
      }, 2000);
    });
    return button;
  }

  /** The program of a run, to be opened, chosen and copied. */
  function program() {
    const code = element('code');
    const which = element('select', { ariaLabel: 'Run' });
    for (const run of ['a', 'b']) which.append(element('option', { value: run }, `run ${run.toUpperCase()}`));
    const bar = element(
      'div',
      { className: 'lab-film' },
      which,
      copier('Copy', () => code.textContent),
    );
    const summary = element('summary', {}, 'Open this in Python');
    const box = element('details', { className: 'lab-python' }, summary, bar, element('pre', { tabIndex: 0 }, code));
    let state = null;

    function write(of) {
      state = of;
      which.hidden = !state.compare;
      if (!state.compare) which.value = 'a';
      code.textContent = sdelib.python.program(state, state[which.value]);
    }
    which.addEventListener('change', () => write(state));
    return { box, write };
  }

  const root = document.getElementById('lab');
  if (!root) return;
  try {
    build(root);
    document.querySelector('.lab-still')?.classList.add('lab-replaced');
  } catch (error) {
    console.error('the laboratory stays a picture:', error);
  }
})();
