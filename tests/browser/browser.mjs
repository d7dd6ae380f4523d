// What the checks in a browser share, and the printing.
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const require = createRequire(import.meta.url); // unlike import it honours NODE_PATH
export const here = resolve(fileURLToPath(import.meta.url), '..');

/** A headless browser that can reach nothing. CHROMIUM names its program where that is not /usr/bin/chromium. */
export function launch() {
  const { chromium } = require('playwright-core');
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND',
    ],
  });
}

/** Problems said as they are found, and counted. */
export function problems() {
  let found = 0;
  function problem(text) {
    found += 1;
    console.log(text);
  }
  return { problem, count: () => found };
}
