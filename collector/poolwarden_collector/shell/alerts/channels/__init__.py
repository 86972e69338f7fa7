"""The kinds of channels, a module each, and what delivers to a channel that is configured.

Beside them stand ``wording`` (what every kind says of an alert), ``limits`` (the end of a conversation that hangs) and
``http_post`` (one request, one answer).
"""

from __future__ import annotations

from collections.abc import Callable

from poolwarden_collector.shell.alerts.channels.alertmanager import AlertmanagerSink
from poolwarden_collector.shell.alerts.channels.apprise import AppriseSink, why_unknown
from poolwarden_collector.shell.alerts.channels.into_pool import PoolSink, Show
from poolwarden_collector.shell.alerts.channels.journald import JournaldSink
from poolwarden_collector.shell.alerts.channels.log import LogSink, alert_log_trouble
from poolwarden_collector.shell.alerts.channels.mail import MailSink
from poolwarden_collector.shell.alerts.channels.syslog import SyslogSink
from poolwarden_collector.shell.alerts.channels.webhook import WebhookSink
from poolwarden_collector.shell.alerts.sinks import Sink
from poolwarden_collector.shell.config.alert_channels import Alerts, Channel
from poolwarden_collector.shell.config.alert_kinds import (
    Alertmanager,
    Apprise,
    Journald,
    LogFile,
    Mail,
    PoolMessages,
    Syslog,
    Webhook,
)

__all__ = ["Make", "channel_trouble", "kept_or_made", "make_sink", "make_sinks"]

Make = Callable[[Channel], Sink]


def make_sink(channel: Channel, collector: str, show: Show) -> Sink:
    """What delivers to this channel; ``collector``: the name of this one, ``show``: a message to a pool's master."""
    match channel.settings:
        case LogFile(path):
            return LogSink(path)
        case Webhook():
            return WebhookSink(channel.settings)
        case Mail():
            return MailSink(channel.settings)
        case Apprise():
            return AppriseSink(channel.settings)
        case Alertmanager():
            return AlertmanagerSink(channel.settings, collector)
        case Syslog():
            return SyslogSink(channel.settings)
        case Journald():
            return JournaldSink(channel.settings)
        case PoolMessages():
            return PoolSink(channel.settings, show)


def make_sinks(alerts: Alerts, collector: str, show: Show) -> tuple[Sink, ...]:
    """What delivers to every configured channel."""
    return tuple(make_sink(channel, collector, show) for channel in alerts.channels)


def kept_or_made(alerts: Alerts, before: Alerts, sinks: tuple[Sink, ...], make: Make) -> tuple[Sink, ...]:
    """What delivers to every configured channel; to one that is as it was ``before``, what did it then."""
    same = {channel.name for channel in alerts.channels if channel in before.channels}
    kept = {sink.name: sink for sink in sinks if sink.name in same}
    return tuple(kept.get(channel.name) or make(channel) for channel in alerts.channels)


def channel_trouble(alerts: Alerts) -> str:
    """What reading the configuration does not show and would keep a channel silent; empty: nothing. Sends nothing.

    Only check-config asks: a collector one of whose channels is out of order still guards its pools.
    """
    if trouble := alert_log_trouble(alerts.log):
        return f"[alerts] log: {trouble}"
    for channel in alerts.channels:
        if isinstance(channel.settings, Apprise) and (why := why_unknown(channel.settings)):
            return f"[alerts.apprise] {channel.settings.name}: {why}"
    return ""
