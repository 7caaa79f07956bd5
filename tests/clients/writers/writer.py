"""One of the five writers of `failover.py`: an insert every 200 ms by pymongo, whatever became of those before.

writer.py URI CA COLLECTION; ends when its standard input does. Prints `start N`, then `ok N` or `error N TYPE CODE LABELS
MESSAGE`, with tabs between.
"""

import sys
import threading

import pymongo

EVERY = 0.2


def say(*words):
    sys.stdout.write("\t".join(str(word) for word in words).replace("\n", " ") + "\n")
    sys.stdout.flush()


def write(things, number):
    say("start", number)
    try:
        things.insert_one({"_id": number})
        say("ok", number)
    except Exception as error:  # noqa: BLE001
        labels = ",".join(sorted(getattr(error, "_error_labels", ())))
        say("error", number, type(error).__name__, getattr(error, "code", None), labels, error)


def main():
    uri, ca, collection = sys.argv[1:]
    stopped = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
    things = pymongo.MongoClient(uri, tlsCAFile=ca).lab[collection]
    writes, number = [], 0
    while not stopped.wait(EVERY):
        writes.append(threading.Thread(target=write, args=(things, number)))
        writes[-1].start()
        number += 1
    for one in writes:
        one.join()


main()
