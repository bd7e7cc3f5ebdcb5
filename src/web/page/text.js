/** Words on the page: links, times, names. Pure: never touches the document. */

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/g;
const CLOSING = { ')': '(', ']': '[', '}': '{' };
/** Colours that the style sheet has for names, each readable in both schemes. */
const COLOURS = 8;
const NAME_BYTES_MAX = 64;
const MESSAGE_GROUP_MS = 5 * 60_000;

/** A body in pieces: text, links (`href`) and mentions of a user (`mention`). */
export function pieces(body, me = '') {
  const found = [];
  let at = 0;
  for (const match of body.matchAll(LINK)) {
    const text = trimmed(match[0]);
    const href = safeHref(text);
    if (href === null) continue;
    found.push(...mentions(body.slice(at, match.index), me), { text, href });
    at = match.index + text.length;
  }
  found.push(...mentions(body.slice(at), me));
  return found.filter(({ text }) => text !== '');
}

/** Without what ends the sentence around a link rather than the link. */
function trimmed(link) {
  let text = link;
  for (;;) {
    const last = text.at(-1);
    const opening = CLOSING[last];
    const unpaired = opening !== undefined && text.split(last).length > text.split(opening).length;
    if (!unpaired && !'.,;:!?…'.includes(last)) return text;
    text = text.slice(0, -1);
  }
}

function safeHref(text) {
  try {
    const url = new URL(text);
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : null;
  } catch {
    return null;
  }
}

function mentions(text, me) {
  if (me === '' || !text.includes(`@${me}`)) return [{ text }];
  return text.split(/((?<![\p{L}\p{N}_.])@\S+)/u).map((part) => {
    const mention = part.startsWith('@') && named(part) === me;
    return mention ? { text: part, mention } : { text: part };
  });
}

function named(part) {
  return part.slice(1).replace(/[.,;:!?…)\]}'"]+$/u, '');
}

/** Whether a body speaks to this user. */
export function mentionsUser(body, me) {
  return pieces(body, me).some(({ mention }) => mention === true);
}

/** Which of the colours a name has: always the same one. */
export function colourOf(name) {
  let hash = 0x811c_9dc5;
  for (const character of name) {
    hash = Math.imul(hash ^ character.codePointAt(0), 0x0100_0193) >>> 0;
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d);
  return ((hash ^ (hash >>> 13)) >>> 0) % COLOURS;
}

/** What stands in a name's circle. */
export function initialOf(name) {
  const letter = [...name].find((character) => /[\p{L}\p{N}]/u.test(character));
  return (letter ?? '#').toUpperCase();
}

/** Why a name will not do, in a sentence; null where it will. */
export function nameProblem(name) {
  if (name === '') return 'A name has at least one letter.';
  if (/[\s\p{Cc}]/u.test(name)) return 'A name has no spaces in it.';
  if (name.startsWith('$')) return 'Names that begin with $ belong to the server.';
  if (new TextEncoder().encode(name).length > NAME_BYTES_MAX) return 'That name is too long.';
  return null;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const nearDay = { weekday: 'long', day: 'numeric', month: 'long' };
const weekday = new Intl.DateTimeFormat(undefined, nearDay);
const fullDay = new Intl.DateTimeFormat(undefined, { dateStyle: 'long' });

export function timeOf(ms) {
  return clock.format(ms);
}

export function momentOf(ms) {
  return moment.format(ms);
}

/** A number that is the same for all times of one local day. */
export function dayOf(ms) {
  const date = new Date(ms);
  return (date.getFullYear() * 12 + date.getMonth()) * 31 + date.getDate();
}

/** A day as people say it. */
export function dayName(ms, nowMs) {
  if (dayOf(ms) === dayOf(nowMs)) return 'Today';
  const yesterday = new Date(nowMs);
  yesterday.setDate(yesterday.getDate() - 1);
  if (dayOf(ms) === dayOf(yesterday.getTime())) return 'Yesterday';
  const near = new Date(ms).getFullYear() === new Date(nowMs).getFullYear();
  return (near ? weekday : fullDay).format(ms);
}

/** Whether a message follows another so closely that its head need not be repeated. */
export function continues(before, message) {
  return before.from === message.from && message.timeMs - before.timeMs < MESSAGE_GROUP_MS
    && dayOf(before.timeMs) === dayOf(message.timeMs);
}

/** A waiting time: `4 s`, `2:05`. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/** A round trip: `0.4 ms`, `37 ms`, `1.2 s`. */
export function roundTrip(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A reason as a sentence. */
export function sentence(reason) {
  return `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`;
}

export function plural(count, one, many) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}
