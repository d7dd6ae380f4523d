/* Controls made from the settings: a labelled input for each kind of field. */
(() => {
  const { short, bounded } = sdelib.settings;
  const LABELS = {
    arrows: 'score',
    compare: 'two runs from the same noise',
    n: 'particles',
    eta: 'noise η',
    corrector_steps: 'corrector steps',
    n_steps: 'steps',
    sigma_min: 'σ min',
    sigma_max: 'σ max',
    beta_min: 'β min',
    beta_max: 'β max',
    alpha_end: 'α(1)',
    label: 'guide towards',
    known: 'inpainting',
    value: 'known value',
    wrong: 'wrong formula',
    solver: 'sampler',
    direction: 'film',
    smooth: 'pen width',
    length: 'std along',
    width: 'std across',
    turn: 'turn, °',
  };
  /** Where a slider stops on its way to 500 steps. */
  const STOPS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500];

  /** An element with properties or attributes, and what it holds. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  /** The control of a setting at its value. `take(value, notes)` is told of a change; `key` is how the focus finds it. */
  function control(name, field, value, take, key = name) {
    const words = LABELS[name] ?? name;
    const make = { flag, choice, number: field.slider ? slider : number }[field.kind];
    const input = make();
    input.dataset.key = key;
    if (field.kind === 'flag') return element('label', {}, input, ` ${words}`);
    const output = field.slider ? element('output', {}, short(value)) : '';
    return element('label', {}, element('span', {}, `${words} `, output), input);

    function flag() {
      const box = element('input', { type: 'checkbox', checked: value });
      box.addEventListener('change', () => take(box.checked, []));
      return box;
    }

    function choice() {
      const select = element('select');
      for (const [of, shown] of Object.entries(field.of)) select.append(element('option', { value: of }, shown));
      select.value = value;
      select.addEventListener('change', () => take(select.value, []));
      return select;
    }

    function number() {
      const { low, high } = field;
      const box = element('input', { type: 'number', min: low, max: high, step: 'any', value: short(value) });
      box.addEventListener('change', () => {
        const notes = [];
        const given = box.value === '' ? Number.NaN : +box.value;
        const within = bounded(words, given, { ...field, initial: value }, notes);
        box.value = short(within);
        take(within, notes);
      });
      return box;
    }

    function slider() {
      const stops = field.slider === 'stops' ? STOPS : null;
      const nearest = () => stops.findIndex((n) => n >= value);
      const range = stops
        ? { min: 0, max: stops.length - 1, step: 1, value: nearest() }
        : { min: field.low, max: field.high, step: field.step, value };
      const box = element('input', { type: 'range', ...range });
      const tell = (now) => stops && box.setAttribute('aria-valuetext', `${now} steps`);
      tell(value);
      box.addEventListener('input', () => {
        const now = stops ? stops[+box.value] : +box.value;
        tell(now);
        output.textContent = short(now);
        take(now, []);
      });
      return box;
    }
  }

  sdelib.controls = { element, control };
})();
