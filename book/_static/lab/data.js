/* Targets known beforehand: sdelib/data.py, with its names. */
(() => {
  const deck = { weights: [0.5, 0.5], means: [-3, 3], covs: [0.25, 1] };
  const deck_mixture = () => sdelib.mixtures.GaussianMixture({ dim: 1, ...deck });

  const SMILE = [
    [0, 0, 1, 0, 360], // outline
    [-0.36, 0.3, 0.13, 0, 360], // open eye
    [0.36, 0.22, 0.2, 25, 155], // closed eye
    [0, 0.08, 0.62, 205, 335], // mouth
    [-0.503, -0.309, 0.14, 65, 165], // its corners
    [0.503, -0.309, 0.14, 15, 115],
  ]; // arcs: centre x, y, radius, from and to which angle, in degrees

  /** The winking face, drawn at constant speed: places in [0, 1) to points, row after row. */
  function smile_curve(places) {
    const lengths = SMILE.map(([, , radius, start, end]) => (radius * (end - start) * Math.PI) / 180);
    const total = lengths.reduce((a, b) => a + b);
    return Float64Array.from(
      [...places].flatMap((place) => {
        let length = place * total;
        let arc = 0;
        while (length >= lengths[arc]) length -= lengths[arc++];
        const [x, y, radius, start] = SMILE[arc];
        const angle = (start * Math.PI) / 180 + length / radius;
        return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
      }),
    );
  }

  sdelib.data = { deck_mixture, smile_curve };
})();
