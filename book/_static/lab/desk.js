/* The desk: the controls of a state, of the target and of each run, and only those that act. */
(() => {
  const { settings } = sdelib;
  const { element, control } = sdelib.controls;

  /** Fill `desk` and `looks` for a state. `set(owner, name, value, notes)` sets one setting, `change()` begins the runs
   * again, `hand` holds the number of the chosen component. Returns what redraws the editor. */
  function fill(desk, looks, state, hand, { set, change, say }) {
    const digits = state.target === 'digits';
    const focused = document.activeElement?.dataset.key;
    const groups = [run_group('a'), ...(state.compare ? [run_group('b')] : [])];
    let redraw = () => {};
    desk.replaceChildren(target_group(), ...groups);
    looks.replaceChildren(...['compare', ...(digits ? [] : ['density', 'arrows'])].map(common));
    if (focused) document.querySelector(`[data-key="${focused}"]`)?.focus();
    redraw();
    return () => redraw();

    function common(name) {
      return control(name, settings.COMMON[name], state[name], (value, notes) => set(state, name, value, notes));
    }

    function button(words, key, act, attributes = {}) {
      const made = element('button', { type: 'button', ...attributes }, words);
      made.dataset.key = key;
      made.addEventListener('click', act);
      return made;
    }

    function refill() {
      redraw = fill(desk, looks, state, hand, { set, change, say });
    }

    function target_group() {
      const group = element('fieldset', {}, element('legend', {}, 'Target'), common('target'));
      if (state.target === 'plane' || state.target === 'drawing') {
        const editor = sdelib.editor.editor(state, hand, { moved: change, say, done });
        redraw = editor.redraw;
        group.append(editor.canvas);
      }
      if (state.target === 'drawing') {
        const clear = button('Clear', 'clear', () => {
          state.points.length = 0;
          done();
          redraw();
        });
        group.append(common('smooth'), clear);
      }
      if (settings.COMPONENT[state.target]) group.append(components());
      group.append(...(digits ? ['seed'] : ['direction', 'n', 'seed']).map(common));
      return group;

      function done() {
        change();
        group.querySelector('.lab-component')?.replaceWith(components());
      }
    }

    function components() {
      const { COMPONENT, MOST, fresh } = settings;
      const list = state.components[state.target];
      hand.chosen = Math.min(hand.chosen, list.length - 1);
      const choose = (k) => {
        hand.chosen = k;
        refill();
      };
      const bar = element('div', { className: 'lab-components', role: 'group', 'aria-label': 'Components' });
      list.forEach((_, k) => {
        const pressed = { ariaPressed: k === hand.chosen, title: `component ${k + 1}` };
        bar.append(button(`${k + 1}`, `component ${k}`, () => choose(k), pressed));
      });
      const add = () => {
        list.push(fresh(state.target, list.length));
        change();
        choose(list.length - 1);
      };
      const remove = () => {
        list.splice(hand.chosen, 1);
        change();
        choose(0);
      };
      bar.append(
        button('+', 'add', add, { ariaLabel: 'Add a component', disabled: list.length === MOST.components }),
        button('−', 'remove', remove, { ariaLabel: 'Remove the chosen component', disabled: list.length === 1 }),
      );
      const box = element('div', { className: 'lab-component' }, bar);
      const own = list[hand.chosen];
      for (const [name, field] of Object.entries(COMPONENT[state.target]))
        box.append(
          control(name, field, own[name], (value) => {
            own[name] = value;
            say(list.every(({ weight }) => weight === 0) ? ['all weights are 0: equal ones are used'] : []);
            change();
            redraw();
          }),
        );
      return box;
    }

    function run_group(which) {
      const run = state[which];
      const group = element(
        'fieldset',
        {},
        element('legend', {}, state.compare ? `Run ${which.toUpperCase()}` : 'Run'),
      );
      const one = (name, of) => {
        const field = of ? { ...settings.RUN[name], kind: 'choice', of } : settings.RUN[name];
        const take = (value, notes) => set(run, name, of && field.low === 0 ? +value : value, notes);
        return control(name, field, of ? String(run[name]) : run[name], take, `${which}.${name}`);
      };
      const more = element('details', { className: 'lab-more', open: hand.open?.[which] ?? false });
      more.append(element('summary', {}, 'its parameters'));
      for (const name of Object.keys(sdelib.sde[run.process]().parameters)) more.append(one(name));
      more.addEventListener('toggle', () => {
        hand.open = { ...hand.open, [which]: more.open };
      });
      group.append(one('process'), more);
      if (state.direction === 'forward') return group;
      const first_order = settings.FIRST_ORDER.includes(run.solver);
      const list = settings.labels_for(state);
      const labels = { 0: 'none', ...Object.fromEntries(list.map((words, k) => [k + 1, words])) };
      const shown = [
        state.target === 'face' && one('score'),
        one('solver'),
        run.solver === 'euler_maruyama' && run.wrong === 'none' && one('eta'),
        run.solver === 'adams' && one('order'),
        one('n_steps'),
        one('grid'),
        first_order && one('corrector_steps'),
        run.corrector_steps > 0 && one('snr'),
        list.length > 0 && one('label', labels),
        run.label > 0 && one('scale'),
        state.target !== 'line' && !digits && run.label === 0 && one('known'),
        run.known !== 'none' && one('value'),
        one('wrong', settings.wrong_for(state.target)),
      ];
      group.append(...shown.filter(Boolean));
      return group;
    }
  }

  sdelib.desk = { fill };
})();
