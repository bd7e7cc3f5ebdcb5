"""The chat in a pseudo-terminal: what it draws, and that it leaves the terminal as it was.

Owns a terminal just good enough for what the chat writes. Called with the server's host and port
and the program under test; ends with 0 if all was as it should be.
"""
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time, unicodedata

HOST, PORT, PROGRAM = sys.argv[1:4]
GUARD_S = 60
SEQUENCE = re.compile(rb"\x1b\[([?0-9;]*)([A-Za-z])")


class Terminal:
    def __init__(self, *arguments, columns=100, rows=24, shared=False):
        # A pair of our own, so that its settings can be looked at before and after.
        self.fd, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.pending, self.modes, self.written = b"", set(), b""
        # A shell that writes too does not look where a line ends.
        self.shared = shared
        self.resize(columns, rows)
        environment = dict(os.environ, TERM="xterm", TZ="UTC", PS1="shell$ ")
        self.process = subprocess.Popen(
            arguments, env=environment, stdin=self.slave,
            stdout=self.slave, stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.cells = [[" "] * columns for _ in range(rows)]
        self.at = [0, 0]
        self.aside = None
        # Rows that go on beyond the edge. What was drawn for the size before may still be on its
        # way, so that only those that stay so are wrong.
        self.beyond = set()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def feed(self, data):
        self.pending += data
        self.written = (self.written + data)[-4096:]
        while self.pending:
            found = SEQUENCE.match(self.pending)
            if found:
                self.control(found[1].decode(), found[2].decode())
                self.pending = self.pending[found.end():]
            elif self.pending[0] == 0x1B:
                return
            else:
                end = (self.pending + b"\x1b").index(b"\x1b")
                try:
                    text = self.pending[:end].decode()
                except UnicodeDecodeError:
                    return
                self.pending = self.pending[end:]
                self.write(text)

    def control(self, parameters, letter):
        if letter == "H":
            row, column = (int(n) for n in parameters.split(";"))
            self.at = [min(row, self.rows) - 1, column - 1]
        elif letter == "K":
            row, column = self.at
            self.cells[row][column:] = [" "] * (self.columns - column)
            self.beyond.discard(row)
        elif letter == "J":
            self.beyond.clear()
            self.cells = [[" "] * self.columns for _ in range(self.rows)]
        elif letter in "hl":
            if (parameters, letter) == ("?1049", "h") and "?1049" not in self.modes:
                self.aside = ([row[:] for row in self.cells], self.at[:])
            elif (parameters, letter) == ("?1049", "l") and self.aside:
                self.cells, self.at = self.aside
                self.beyond.clear()
            (self.modes.add if letter == "h" else self.modes.discard)(parameters)
        else:
            assert letter == "m", f"unknown sequence {letter}"

    def write(self, text):
        for character in text:
            if character == "\n":
                self.at[0] += 1
                if self.at[0] == self.rows:
                    self.at[0] -= 1
                    self.cells = [*self.cells[1:], [" "] * self.columns]
            if character == "\r":
                self.at[1] = 0
            if character in "\r\n":
                continue
            row, column = min(self.at[0], self.rows - 1), self.at[1]
            wide = unicodedata.east_asian_width(character) in "WF"
            if unicodedata.combining(character):
                self.cells[row][column - 1] += character
                continue
            if column + wide >= self.columns:
                self.beyond.add(row)
                continue
            assert ord(character) >= 32, f"a control character was drawn: {character!r}"
            self.cells[row][column] = character
            if wide:
                self.cells[row][column + 1] = ""
            self.at[1] += 2 if wide else 1

    def screen(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def read(self, wait_s):
        if not select.select([self.fd], [], [], wait_s)[0]:
            return False
        self.feed(os.read(self.fd, 65536))
        return True

    def expect(self, words, absent=False):
        end = time.monotonic() + GUARD_S
        while (words in self.screen()) == absent or self.beyond and not self.shared:
            assert time.monotonic() < end, (
                f"{words!r}, absent {absent}, rows beyond the edge {self.beyond}, the program's "
                f"exit code {self.process.poll()}, in\n{self.screen()}\nby {self.written}")
            self.read(0.1)
        while self.read(0):
            pass

    def expect_the_shell(self):
        """The settings are those of before: a return is the end of a line again."""
        end = time.monotonic() + GUARD_S
        while termios.tcgetattr(self.slave) != self.before:
            assert time.monotonic() < end, "the shell has its settings"
            self.read(0.05)

    def type(self, text):
        os.write(self.fd, text.encode())

    def leave(self, keys):
        self.type(keys)
        end = time.monotonic() + GUARD_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end, in\n{self.screen()}"
            self.read(0.05)
        while self.read(0):
            pass
        assert self.process.returncode == 0, self.process.returncode
        assert "?1049" not in self.modes and "?2004" not in self.modes, self.modes
        assert "?25" in self.modes, "the cursor is shown"
        assert termios.tcgetattr(self.slave) == self.before, "the terminal is as it was"


def chat(*arguments):
    return [PROGRAM, "chat", *arguments, f"{HOST}:{PORT}"]


def say(user, room, text):
    subprocess.run(chat("--user", user, "--room", room), input=text.encode(), check=True,
                   timeout=GUARD_S)


ann = Terminal(*chat("--user", "ann", "--room", "lobby,den"))
ann.expect("online")
ann.expect("ann›")
say("bob", "lobby", "good evening\n")
ann.expect("bob │ good evening")
ann.expect("bob left")
say("carol", "den", "psst ann\nand more 日本語 with \x1b[31mcolour\n")
ann.expect("#den            2")
ann.type("hello all\r")
ann.expect("ann │ hello all")
ann.expect("…", absent=True)

# The unread conversation, by the keyboard, in a terminal that cannot be driven from outside.
ann.type("\t")
ann.expect("and more 日本語 with  [31mcolour")
ann.expect("#den            2", absent=True)
ann.type("日本語x\x1b[D\x7f!")
ann.expect("ann› 日本!x")
assert ann.at == [23, 10], ann.at
ann.type("\x05\x15/dance\r")
ann.expect("/dance is no command")

ann.type("\x1bOP")
ann.expect("Keys, Esc closes this")
ann.expect("/quit")
ann.type("\x1b")
ann.expect("Keys, Esc", absent=True)

# Narrow, then wide again: nothing is drawn beyond the edge, and nothing is left behind.
ann.resize(44, 12)
ann.expect("#den  1 here")
ann.expect("#lobby", absent=True)
ann.resize(120, 30)
ann.expect("#lobby")
ann.leave("\x03")

# No shell started it as a job, so that nobody would continue it: it stays.
bob = Terminal(*chat("--user", "bob"))
bob.expect("online")
bob.type("\x1astill here\r")
bob.expect("bob │ still here")
bob.leave("\x04")

# The same in a session whose leader is in another namespace, as in a container: its number is 0.
UNSHARED = ["unshare", "--user", "--map-root-user", "--pid", "--fork"]
if subprocess.run([*UNSHARED, "true"], stderr=subprocess.DEVNULL).returncode == 0:
    eve = Terminal(*UNSHARED, *chat("--user", "eve"))
    eve.expect("online")
    eve.type("\x1astill here\r")
    eve.expect("eve │ still here")
    eve.leave("\x04")

# A shell gets its terminal back while the chat is suspended, whoever suspends it, and the chat
# draws everything anew when it goes on.
dan = Terminal("sh", "-i", columns=300, shared=True)
dan.expect("shell$")
dan.type("exec 2>&1; " + " ".join(chat("--user", "dan")) + "\r")
dan.expect("dan›")
dan.expect("online")
with open(f"/proc/{dan.process.pid}/task/{dan.process.pid}/children") as children:
    talking = int(children.read().split()[0])
for suspend in (lambda: dan.type("\x1a"), lambda: os.kill(talking, signal.SIGTSTP)):
    suspend()
    dan.expect("Stopped")
    assert "?1049" not in dan.modes and "?25" in dan.modes, dan.modes
    say("carol", "lobby", "while you were away\n")
    dan.type("echo un; echo $((6 * 7))\r")
    dan.expect("\n42")
    dan.expect_the_shell()
    dan.type("fg\r")
    dan.expect("dan›")
    dan.expect("carol │ while you were away")
    dan.expect("Stopped", absent=True)
    dan.type("/clear\r")
    dan.expect("while you were away", absent=True)
# Stopped without a word, it cannot give the terminal back, but takes it again.
os.kill(talking, signal.SIGSTOP)
dan.expect("Stopped")
dan.type("fg\n")
dan.expect("Stopped", absent=True)
dan.expect("dan›")
dan.type("\x03")
dan.expect("shell$")
dan.expect("dan›", absent=True)
dan.expect_the_shell()
dan.leave("exit\r")
