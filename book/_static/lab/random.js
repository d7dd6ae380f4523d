/* Random numbers that a seed repeats, on every machine alike. */
(() => {
  /** uniform() in (0, 1), Marsaglia's xorshift of 128 bits (2003, Sec. 4), and normal(), by Box and Muller's formula. */
  function generator(seed) {
    let [x, y, z, w] = [123456789, 362436069, 521288629, Math.imul(seed + 1, 0x9e3779b1)];
    let spare = null;
    function uniform() {
      const t = x ^ (x << 11);
      [x, y, z] = [y, z, w];
      w ^= (w >>> 19) ^ t ^ (t >>> 8);
      return ((w >>> 0) + 0.5) / 2 ** 32;
    }
    for (let i = 0; i < 40; i++) uniform(); // until nearby seeds have nothing in common
    function normal() {
      if (spare !== null) {
        const z = spare;
        spare = null;
        return z;
      }
      const [radius, angle] = [Math.sqrt(-2 * Math.log(uniform())), 2 * Math.PI * uniform()];
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    }
    const randn_like = (x) => Float64Array.from(x, normal);
    return { uniform, normal, randn_like };
  }
  sdelib.random = { generator };
})();
