/**
 * Checks of a page's accessibility, by the success criteria of WCAG 2.2 that a program can judge.
 *
 * `audit` runs inside of the page and names every place that fails.
 */

/** What is wrong with what can be seen on this page, one line each. */
export async function audit(page) {
  return page.evaluate(() => {
    const findings = [];
    const find = (node, what) => {
      const words = node.textContent?.trim().slice(0, 30) ?? '';
      const id = node.id ? `#${node.id}` : `.${node.getAttribute('class') ?? ''}`;
      findings.push(`<${node.localName}${id}> "${words}": ${what}`);
    };
    const seen = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true })
      && !node.closest('.unseen, .skip') && node.getClientRects().length > 0;
    const named = (node) => {
      const labelled = node.getAttribute('aria-labelledby');
      const label = node.getAttribute('aria-label')
        ?? (labelled && document.getElementById(labelled)?.textContent)
        ?? [...(node.labels ?? [])].map((one) => one.textContent).join('');
      const text = node.matches('input, textarea') ? '' : node.textContent;
      return `${label}${text}`.trim() !== '';
    };

    // 4.1.1, 1.3.1: ids are unique, and what refers to one finds it.
    const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    const twice = ids.filter((one, at) => ids.indexOf(one) !== at);
    findings.push(...twice.map((id) => `twice: ${id}`));
    for (const attribute of ['aria-controls', 'aria-labelledby', 'aria-describedby', 'for']) {
      for (const node of document.querySelectorAll(`[${attribute}]`)) {
        const target = node.getAttribute(attribute);
        if (document.getElementById(target) === null) find(node, `${attribute} finds no ${target}`);
      }
    }

    // 3.1.1, 2.4.2, 2.4.1, 1.3.1: language, title, one main part, one first heading.
    if (document.documentElement.lang === '') findings.push('no language');
    if (document.title === '') findings.push('no title');
    for (const [selector, what] of [['main', 'main parts'], ['h1', 'first headings']]) {
      const count = [...document.querySelectorAll(selector)].filter(seen).length;
      const dialog = document.querySelector('dialog[open]') !== null;
      if (count !== 1 && !dialog) findings.push(`${count} ${what}`);
    }

    // 4.1.2, 2.5.8: what can be used has a name, and a size that a finger meets.
    for (const node of document.querySelectorAll('a[href], button, input, textarea, [tabindex]')) {
      if (!seen(node)) continue;
      if (!named(node)) find(node, 'has no name');
      const { width, height } = node.getBoundingClientRect();
      const inText = node.closest('.body, .head') !== null;
      if (!inText && (width < 24 || height < 20)) find(node, `is only ${width} by ${height}`);
    }
    for (const node of document.querySelectorAll('svg')) {
      const hidden = node.getAttribute('aria-hidden') === 'true';
      const image = node.getAttribute('role') === 'img' && named(node);
      if (seen(node) && !hidden && !image) find(node, 'is neither an image with a name nor hidden');
    }
    for (const list of document.querySelectorAll('ul, ol')) {
      if ([...list.children].some((one) => one.localName !== 'li')) find(list, 'has more than li');
    }

    // 1.4.3: contrast of text with what is behind it.
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (colour) => {
      const parts = colour.slice(0, 3).map((part) => part / 255)
        .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = (node) => {
      for (let one = node; one !== null; one = one.parentElement) {
        const colour = rgba(getComputedStyle(one).backgroundColor);
        if (colour[3] === 255) return colour;
      }
      return [255, 255, 255, 255];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const judged = new Set();
    while (texts.nextNode()) {
      const node = texts.currentNode.parentElement;
      if (texts.currentNode.data.trim() === '' || judged.has(node) || !seen(node)) continue;
      judged.add(node);
      if (node.closest('script, style, noscript, button:disabled') !== null) continue;
      if (document.querySelector('dialog[open]') && !node.closest('dialog')) continue;
      const style = getComputedStyle(node);
      const drawn = node.namespaceURI.endsWith('svg') ? style.fill : style.color;
      const [one, other] = [luminance(rgba(drawn)), luminance(behind(node))];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (ratio < 4.5) find(node, `has a contrast of ${ratio.toFixed(2)}`);
    }
    if (judged.size < 5) findings.push('there is nothing to judge');

    // 1.4.10: nothing reaches out of the page sideways.
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) findings.push(`${scrollWidth} wide in ${clientWidth}`);
    const parts = '.top > *, .conversation-head > *, .composer > *, .tile, .card';
    for (const node of document.querySelectorAll(parts)) {
      const box = node.getBoundingClientRect();
      if (seen(node) && box.right > innerWidth + 0.5) find(node, 'reaches out of the window');
    }
    return findings;
  });
}

/** Presses Tab until the focus comes round, and names what is met without a visible sign of it. */
export async function tabStops(page) {
  const stops = [];
  let nowhere = 0;
  for (let count = 0; count < 80 && nowhere < 3; count += 1) {
    await page.keyboard.press('Tab');
    const stop = await page.evaluate(() => {
      const node = document.activeElement;
      if (node === document.body) return null;
      const { outlineStyle, outlineWidth } = getComputedStyle(node);
      const sign = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
      const label = node.id || node.getAttribute('aria-label') || node.textContent.trim();
      return { label, sign, seen: node.getClientRects().length > 0 };
    });
    // Between its last place and its first one the focus leaves the page.
    if (stop === null) nowhere += 1;
    else if (stops.some(({ label }) => label === stop.label)) break;
    else stops.push(stop);
  }
  return stops;
}
