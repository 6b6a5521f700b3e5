#!/usr/bin/env python3
"""Publishes one event to wechat-notifier and reports whether the broker confirmed it.

    pip install pika            (Debian: apt-get install python3-pika)
    AMQP_URL=amqp://user:password@broker/%2f ./publish_event.py payment.paid event.json

From a shell, the daemon's binary does the same:  wechat-notifier publish event.json

The second argument is a file with the event as JSON, or - for standard input. Exit code 0 means that the broker has
confirmed the event, and wechat-notifier will process it. Any other code means that it was not confirmed: publish it again
with the same event_id, which is safe, since an event_id is processed once.
"""

import argparse
import json
import os
import sys

import pika
from pika.exceptions import AMQPError, NackError, UnroutableError


def main():
    arguments = parse_arguments()
    body = arguments.event.read()
    try:
        event_id = json.loads(body)["event_id"]
    except (ValueError, KeyError, TypeError):
        sys.exit("not published: the event must be a JSON object with an event_id")
    try:
        publish(arguments, event_id, body)
    except UnroutableError:
        sys.exit(f"not published: exchange {arguments.prefix}.events has no queue; has wechat-notifier ever run here?")
    except NackError:
        sys.exit("not published: the broker refused the event (a full queue?); try again later")
    except AMQPError as error:
        sys.exit(f"not published: {error!r}")
    print(f"confirmed {event_id}")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Publish one event to wechat-notifier.")
    parser.add_argument("routing_key", help="what happened, for example payment.paid")
    parser.add_argument("event", type=argparse.FileType(encoding="utf-8"), help="file with the event, - for standard input")
    parser.add_argument("--url", default=os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1/%2f"))
    parser.add_argument("--prefix", default=os.environ.get("AMQP_PREFIX", "wechat"), help="amqp.prefix of wechat-notifier")
    return parser.parse_args()


def publish(arguments, event_id, body):
    parameters = pika.URLParameters(arguments.url)
    # A broker in memory or disk alarm blocks publishers without an answer: do not wait forever.
    parameters.blocked_connection_timeout = 30
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        # With confirms, basic_publish returns only when the broker has the event on disk, and raises when it refuses it.
        channel.confirm_delivery()
        channel.basic_publish(
            exchange=f"{arguments.prefix}.events",
            routing_key=arguments.routing_key,
            body=body.encode("utf-8"),
            properties=pika.BasicProperties(
                content_type="application/json",
                message_id=event_id,
                delivery_mode=2,  # persistent: survives a restart of the broker
            ),
            mandatory=True,  # an event that reaches no queue is an error, not a success
        )


if __name__ == "__main__":
    main()
