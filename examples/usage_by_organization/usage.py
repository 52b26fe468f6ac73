#!/usr/bin/env python3
"""Sums the usage of each organization and day from CrowNest's events.

    usage.py consume        takes events from the queue until it is stopped
    usage.py sums DAY       prints what each organization used on a day (UTC)

Events come at least once: after a crash, or when a connection breaks, the broker delivers again what was not
acknowledged, and the server may publish again what was not confirmed. So an event is kept under its id, of
which there can be only one, and it is acknowledged only when it is kept. Whatever fails in between, nothing
is lost and nothing counts twice.

Quantities and credits come as decimal numbers in strings, and stay exact: never make floats of them.
"""

import argparse
import json
import os
import signal
import sqlite3
import sys
import time
from collections import defaultdict
from decimal import Decimal, Inexact, getcontext

import pika
import pika.exceptions

USAGE = "crownest.usage.recorded.v1"
# A sum that would have to be rounded is an error.
getcontext().prec = 100
getcontext().traps[Inexact] = True
# Messages on the way at a time.
PREFETCH = 100
LONGEST_PAUSE = 15

SCHEMA = """
create table if not exists usage (
    event_id text primary key,
    day text not null,
    organization text not null,
    metric text not null,
    quantity text not null,
    credits text not null
);
create index if not exists usage_by_day on usage (day, organization, metric);
-- What is no event as asyncapi.yaml describes them. It is kept for a person to look at.
create table if not exists refused (
    routing_key text not null,
    reason text not null,
    body blob not null
);
"""


class NotAnEvent(Exception):
    """The message is not as asyncapi.yaml describes it."""


def open_database(path):
    database = sqlite3.connect(path, timeout=30)
    database.execute("pragma journal_mode = wal")
    # An event that is acknowledged must survive the loss of power, too.
    database.execute("pragma synchronous = full")
    database.executescript(SCHEMA)
    return database


def attributes_of(method, properties):
    """The event's attributes: CloudEvents 1.0 in the binary mode of its AMQP binding has them in headers."""
    prefix = "cloudEvents:"
    headers = properties.headers or {}
    attributes = {name[len(prefix):]: value for name, value in headers.items() if name.startswith(prefix)}
    for name in ("specversion", "id", "type", "source", "subject", "time", "sequence", "orgid"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise NotAnEvent(f"it has no attribute {name}")
    if attributes["specversion"] != "1.0":
        raise NotAnEvent(f"it is a CloudEvent of version {attributes['specversion']}")
    if properties.content_type != "application/json":
        raise NotAnEvent(f"its content is {properties.content_type}")
    if properties.message_id != attributes["id"]:
        raise NotAnEvent("its message id is not its event id")
    if method.routing_key != f"{attributes['type']}.{attributes['orgid']}":
        raise NotAnEvent(f"its routing key is {method.routing_key}")
    return attributes


def keep(database, method, properties, body):
    """Keeps what a message tells of, in one transaction; the same event again changes nothing."""
    with database:
        try:
            attributes = attributes_of(method, properties)
            # The queue has every type of event; a type that is new here is not wanted either.
            if attributes["type"] != USAGE:
                return
            data = json.loads(body)
            # A window is never longer than its day. What a correction adds or takes away has the window's time.
            day = data["startedAt"][:10]
            quantity, credits = Decimal(data["quantity"]), Decimal(data["credits"])
            if not (quantity.is_finite() and credits.is_finite()):
                raise NotAnEvent("it has an amount that is no number")
            row = (attributes["id"], day, attributes["orgid"], data["metric"], str(quantity), str(credits))
        except (NotAnEvent, ValueError, KeyError, TypeError, ArithmeticError) as problem:
            reason = f"{type(problem).__name__}: {problem}"
            print(f"usage: a message was refused: {reason}", file=sys.stderr)
            database.execute("insert into refused values (?, ?, ?)", (method.routing_key, reason, body))
            return
        database.execute("insert into usage values (?, ?, ?, ?, ?, ?) on conflict do nothing", row)


def consume(database, url, queue, until_idle):
    """Consumes until the connection breaks, or nothing has come for so many seconds."""
    parameters = pika.URLParameters(url)
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=PREFETCH)
        for method, properties, body in channel.consume(queue, inactivity_timeout=until_idle):
            if method is None:
                return
            keep(database, method, properties, body)
            # Only now: what is not kept comes again.
            channel.basic_ack(method.delivery_tag)
    finally:
        if connection.is_open:
            connection.close()


def consume_for_ever(database, url, queue, until_idle):
    pause = 1
    while True:
        begun = time.monotonic()
        try:
            consume(database, url, queue, until_idle)
            return
        except (pika.exceptions.AMQPError, OSError) as problem:
            if time.monotonic() - begun > LONGEST_PAUSE:
                pause = 1
            print(f"usage: {type(problem).__name__}; connecting again", file=sys.stderr)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def sums(database, day):
    """Quantity and credits by organization and metric, exactly."""
    total = defaultdict(lambda: [Decimal(0), Decimal(0)])
    rows = database.execute("select organization, metric, quantity, credits from usage where day = ?", (day,))
    for organization, metric, quantity, credits in rows:
        sum_of = total[organization, metric]
        sum_of[0] += Decimal(quantity)
        sum_of[1] += Decimal(credits)
    return total


def plain(number):
    """All digits, no exponent, no zeros at the end."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def main():
    parser = argparse.ArgumentParser(description="Sums the usage of each organization and day from events.")
    parser.add_argument("--database", default="usage.db", help="the SQLite file to keep usage in")
    commands = parser.add_subparsers(dest="command", required=True)
    consuming = commands.add_parser("consume", help="take events from the queue until it is stopped")
    consuming.add_argument("--url", default=os.environ.get("CROWNEST_AMQP_URL"), help="as CROWNEST_AMQP_URL")
    consuming.add_argument("--queue", default="crownest.usage", help="the queue")
    consuming.add_argument("--until-idle", type=float, metavar="SECONDS", help="end when nothing comes for so long")
    summing = commands.add_parser("sums", help="print what each organization used on a day")
    summing.add_argument("day", help="such as 2031-01-31, in UTC")
    arguments = parser.parse_args()
    database = open_database(arguments.database)
    if arguments.command == "sums":
        for (organization, metric), (quantity, credits) in sorted(sums(database, arguments.day).items()):
            print(f"{arguments.day}\t{organization}\t{metric}\t{plain(quantity)}\t{plain(credits)}")
        return
    if not arguments.url:
        parser.error("--url or CROWNEST_AMQP_URL must name the broker")
    # Between two messages or within one, it may end at any instant.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        consume_for_ever(database, arguments.url, arguments.queue, arguments.until_idle)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
