// Print every page of the built book, in its order, into one PDF with all folds open: see `make pdf`.
//
//   NODE_PATH=... node tools/print_book.mjs OUTPUT PAGE...        CHROMIUM names the browser's program

import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { here, launch, require } from '../tests/browser/browser.mjs';

const { PDFDocument, StandardFonts } = require('pdf-lib');

const [output, ...pages] = process.argv.slice(2);
const built = resolve(here, '../../_build/html');
const browser = await launch();
const book = await PDFDocument.create();
for (const name of pages) {
  const page = await browser.newPage({ colorScheme: 'light' });
  await page.goto(pathToFileURL(resolve(built, `${name}.html`)).href, { waitUntil: 'load' });
  await page.evaluate(async () => {
    await globalThis.MathJax?.startup?.promise;
    document.querySelectorAll('img[loading]').forEach((img) => {
      img.loading = 'eager';
    });
    document.querySelectorAll('details').forEach((fold) => {
      fold.open = true;
    });
    // links to other pages would name files of this machine
    const own = document.querySelector('link[rel=canonical]')?.href;
    for (const link of document.querySelectorAll('a[href]'))
      if (link.protocol === 'file:' && link.pathname !== location.pathname) {
        if (own) link.href = new URL(link.getAttribute('href'), own).href;
        else link.removeAttribute('href');
      }
    await Promise.all([...document.images].map((img) => img.decode().catch(() => {})));
  });
  const printed = await PDFDocument.load(
    await page.pdf({
      format: 'A4',
      scale: 0.8,
      printBackground: true,
      margin: { top: '18mm', bottom: '18mm', left: '16mm', right: '16mm' },
    }),
  );
  for (const sheet of await book.copyPages(printed, printed.getPageIndices())) book.addPage(sheet);
  console.log(`${name}: ${printed.getPageCount()} sheets`);
  await page.close();
}
await browser.close();
const font = await book.embedFont(StandardFonts.Helvetica);
book.getPages().forEach((sheet, i) => {
  const number = String(i + 1);
  sheet.drawText(number, { x: (sheet.getWidth() - font.widthOfTextAtSize(number, 9)) / 2, y: 24, size: 9, font });
});
writeFileSync(output, await book.save());
