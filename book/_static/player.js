/* The one player: turns <figure class="player" data-player="..."> with its still picture into a film with a time slider.
   It plays while it is on screen, and by itself only where the reader's system allows motion. */
(() => {
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const FRAME = 70, // milliseconds, or more,
    FILM = 3000; // as a film lasts as long as this

  function decoded(text) {
    const raw = atob(text);
    return Uint8Array.from(raw, (c) => c.charCodeAt(0));
  }

  function control(tag, attributes, text = '') {
    const element = document.createElement(tag);
    Object.assign(element, attributes);
    if (text) element.textContent = text;
    return element;
  }

  function build(root) {
    const film = JSON.parse(root.dataset.player);
    const picture = root.querySelector('img');
    const [count, rows, columns] = film.shape;
    const pace = Math.max(FRAME, FILM / count);
    const points = film.kind === 'points';
    for (const part of [...film.series, film.under]) if (part) part.bytes = decoded(part.frames);
    let chosen = 0,
      timer = 0,
      seen = false,
      wanted = !still.matches;

    const canvas = control('canvas', { width: 680, height: points ? 680 : Math.round((680 * rows) / columns) });
    if (!points && columns > 2 * rows) canvas.className = 'wide';
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', picture.alt);
    const ink = canvas.getContext('2d');
    const ground = film.under && shaded(film.under);
    const play = control('button', { type: 'button' });
    const slider = control('input', { type: 'range', min: 0, max: count - 1, value: still.matches ? count - 1 : 0 });
    const clock = control('label', {}, film.clock ? `${film.clock} ` : 'time ');
    clock.append(slider);
    const bar = control('div', { className: 'player-bar' });
    bar.append(play, clock);

    function choose(i) {
      chosen = i;
      draw();
    }
    if (film.series.length > 1) {
      const numbers = film.series.every((s) => s.label !== '' && Number.isFinite(Number(s.label)));
      bar.append(numbers ? scale() : group());
    }

    function scale() {
      // of numbers a second slider
      const label = control('label', {}, `${film.choice} `);
      const input = control('input', { type: 'range', min: 0, max: film.series.length - 1, value: 0 });
      const value = control('output', {}, film.series[0].label);
      input.setAttribute('aria-valuetext', film.series[0].label);
      input.addEventListener('input', () => {
        value.textContent = film.series[+input.value].label;
        input.setAttribute('aria-valuetext', value.textContent);
        choose(+input.value);
      });
      label.append(input, value);
      return label;
    }
    function group() {
      const name = `player-${Math.random().toString(36).slice(2)}`;
      const group = control('span', {});
      group.setAttribute('role', 'radiogroup');
      group.setAttribute('aria-label', film.choice);
      film.series.forEach((s, i) => {
        const radio = control('input', { type: 'radio', name, checked: i === 0 });
        radio.addEventListener('change', () => choose(i));
        const label = control('label', {});
        label.append(radio, ` ${s.label}`);
        group.append(label);
      });
      return group;
    }
    function shaded({ shape, bytes }) {
      // a density, blue on the page's own ground, drawn once
      const [height, width] = shape;
      const shade = control('canvas', { width: canvas.width, height: canvas.height });
      const ink = shade.getContext('2d');
      const [w, h] = [canvas.width / width, canvas.height / height];
      for (let r = 0; r < height; r++)
        for (let c = 0; c < width; c++) {
          ink.fillStyle = `rgba(59, 130, 196, ${(0.6 * bytes[r * width + c]) / 255})`;
          const [left, top] = [Math.round(c * w), Math.round(r * h)];
          ink.fillRect(left, top, Math.round((c + 1) * w) - left, Math.round((r + 1) * h) - top);
        }
      return shade;
    }

    function draw() {
      const frame = +slider.value,
        { bytes, colour } = film.series[chosen],
        size = canvas.width;
      ink.clearRect(0, 0, size, canvas.height);
      if (points) {
        if (ground) ink.drawImage(ground, 0, 0);
        const place = (f, i) => {
          const at = (f * rows + i) * 2;
          return [1 + (bytes[at] - 128) / 127, 1 - (bytes[at + 1] - 128) / 127].map((k) => (k * size) / 2);
        };
        ink.fillStyle = ink.strokeStyle = colour;
        for (let i = 0; i < rows; i++) {
          const first = Math.max(0, frame - (film.trail ?? 0));
          ink.globalAlpha = 0.5;
          ink.beginPath();
          for (let f = first; f <= frame; f++) ink.lineTo(...place(f, i));
          ink.stroke();
          ink.globalAlpha = 1;
          ink.beginPath();
          ink.arc(...place(frame, i), film.trail ? 5 : 3, 0, 7);
          ink.fill();
        }
      } else {
        const side = size / columns,
          dark = document.documentElement.dataset.theme === 'dark';
        for (let r = 0; r < rows; r++)
          for (let c = 0; c < columns; c++) {
            const value = bytes[(frame * rows + r) * columns + c];
            ink.fillStyle = `rgb(${Array(3).fill(dark ? value : 255 - value)})`;
            ink.fillRect(Math.floor(c * side), Math.floor(r * side), Math.ceil(side), Math.ceil(side));
          }
      }
      const time = film.times[frame];
      const now = film.clock ? `${film.clock} ${time}` : `t = ${time.toFixed(3)}`;
      ink.fillStyle = getComputedStyle(root).color;
      ink.font = '26px sans-serif';
      if (points) ink.fillText(now, 16, canvas.height - 18);
      slider.setAttribute('aria-valuetext', now);
    }
    function tick() {
      if (+slider.value >= count - 1) return pause();
      slider.value = +slider.value + 1;
      draw();
    }
    function settle() {
      // what runs follows from what is wanted and what is seen
      const on = wanted && seen;
      if (on && !timer) timer = setInterval(tick, pace);
      if (!on && timer) {
        clearInterval(timer);
        timer = 0;
      }
      play.textContent = wanted ? 'Pause' : 'Play';
    }
    function pause() {
      wanted = false;
      settle();
    }
    play.addEventListener('click', () => {
      wanted = !wanted;
      if (wanted && +slider.value >= count - 1) slider.value = 0;
      settle();
    });
    slider.addEventListener('input', () => {
      pause();
      draw();
    });

    picture.hidden = true;
    picture.classList.add('player-still');
    root.prepend(canvas);
    root.querySelector('figcaption').before(bar);
    new IntersectionObserver(
      (entries) => {
        seen = entries.at(-1).isIntersecting;
        settle();
      },
      { threshold: 0.4 },
    ).observe(canvas);
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    settle();
    draw();
  }

  function start() {
    // a film is unpacked when the reader comes near it
    const near = new IntersectionObserver(
      (entries) =>
        entries.forEach(({ isIntersecting, target }) => {
          if (!isIntersecting) return;
          near.unobserve(target);
          try {
            build(target);
          } catch (error) {
            console.warn('a film stays a still picture:', error);
          }
        }),
      { rootMargin: '600px' },
    );
    for (const root of document.querySelectorAll('.player')) near.observe(root);
  }
  if (document.readyState === 'loading') document.addEventListener('DOMContentLoaded', start);
  else start();
})();
