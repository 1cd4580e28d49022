"""Runs one program and ends it when the process that asked for it is gone.

`python -I -S keeper.py --signal=15 [--user=NAME] [--remove=FOLDER] -- PROGRAM ARGUMENT…`

Prints the program's pid and ends with its exit code (128 + signal where a signal ended it). The
asking process holds the other end of standard input: `s` there means stop the program, `k` kill it,
and end of file that the asker is dead: then the program is stopped and FOLDER deleted. That works on
every Unix and whichever thread asked, unlike the kernel's own parent-death signal.
Standard library only: it starts in 20 ms and needs 10 MB.
"""

import os
import pwd
import shutil
import subprocess
import sys
import threading

GRACE_S = 45.0  # a JVM that writes its class-data archive takes ten, on a busy machine more


def main(arguments: list[str]) -> int:
    """Exit code of the program that stands after `--`."""
    split = arguments.index("--")
    options = dict(option.removeprefix("--").split("=", 1) for option in arguments[:split])
    owner = pwd.getpwnam(options["user"]) if "user" in options else None
    program = subprocess.Popen(  # noqa: S603 - the command is the sandbox's own
        arguments[split + 1 :],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=owner.pw_uid if owner else None,
        group=owner.pw_gid if owner else None,
        extra_groups=[] if owner else None,
    )
    sys.stdout.write(f"{program.pid}\n")
    sys.stdout.flush()
    asker_died = threading.Event()

    def obey() -> None:
        order = os.read(0, 1)
        if not order:
            asker_died.set()
        if order == b"k":
            program.kill()
            return
        program.send_signal(int(options["signal"]))
        try:
            program.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            program.kill()

    threading.Thread(target=obey, daemon=True).start()
    code = program.wait()
    if asker_died.is_set() and "remove" in options:
        shutil.rmtree(options["remove"], ignore_errors=True)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
