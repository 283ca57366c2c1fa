"""Common kinds of plain Backtrader strategies, written without any use of flagbt.

Each logs every call from Backtrader, so that two engines can be compared call by call.
"""

from __future__ import annotations

import datetime
import math
import random

import backtrader as bt

Note = tuple[object, ...]


class CallLogger(bt.Strategy):
    """Log every call; the class keeps the log after the replay."""

    short = False  # whether it goes short
    price = 30_000.0  # of its test bars
    fewest = 4  # minimum number of fills
    last: list[Note]

    def note(self, kind, *values):
        """Add a line to the log."""
        vars(self).setdefault("log", []).append((kind, len(self), *values))

    def notify_order(self, order):
        """Log an order's state and its fill."""
        did, created = order.executed, order.created
        self.note(
            "order",
            order.getstatusname(),
            order.getordername(),
            order.ordtypename(),
            order.tradeid,
            created.size,
            created.price,
            created.pricelimit,
            created.pclose,
            created.dt,
            order.size,
            order.valid,
            order.alive(),
            did.size,
            did.price,
            did.value,
            did.comm,
            did.pnl,
            did.dt,
            did.remsize,
            did.psize,
            did.pprice,
            order.info.get("why", None),
        )

    def notify_trade(self, trade):
        """Log a trade that opened or closed."""
        self.note(
            "trade",
            trade.tradeid,
            trade.isopen,
            trade.isclosed,
            trade.justopened,
            trade.size,
            trade.price,
            trade.value,
            trade.commission,
            trade.pnl,
            trade.pnlcomm,
            trade.baropen,
            trade.barclose,
            trade.barlen,
            trade.dtopen,
            trade.dtclose,
        )

    def notify_cashvalue(self, cash, value):
        """Log the account at each bar."""
        held = self.getposition()
        self.note("cash", cash, value, held.size, held.price, self.broker.get_value([self.data]), len(self.broker.orders))

    def notify_fund(self, cash, value, fundvalue, shares):
        """Log the account as a fund."""
        self.note("fund", cash, value, fundvalue, shares)

    def notify_timer(self, timer, when, *args, **kwargs):
        """Log a timer."""
        self.note("timer", when, args, tuple(kwargs.items()))

    def notify_store(self, msg, *args, **kwargs):
        """Log a store's message."""
        self.note("store", str(msg))

    def notify_data(self, data, status, *args, **kwargs):
        """Log a feed's message."""
        self.note("data", status)

    def prenext(self):
        """Log a bar of the warm-up."""
        self.note("prenext", self.data.datetime.datetime(0), self.data.close[0])

    def nextstart(self):
        """Log the first bar after the warm-up."""
        self.note("nextstart", self.data.datetime.datetime(0), self.data.close[0])
        self.next()

    def stop(self):
        """Keep the log on the class."""
        self.note("stop", self.broker.getcash(), self.broker.getvalue(), [str(each.status) for each in self._orders])
        type(self).last = self.log


class SmaCross(CallLogger):
    """Trade the crossing of two means with a fifth of the cash."""

    params = (("fast", 10), ("slow", 30))

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))
        self.setsizer(bt.sizers.PercentSizer(percents=20))

    def next(self):
        if not self.position and self.cross > 0:
            self.buy()
        elif self.position and self.cross < 0:
            self.close()


class SizerInStart(SmaCross):
    """Trade the same, with the sizer set in start()."""

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow))

    def start(self):
        self.setsizer(bt.sizers.PercentSizer(percents=35))


class SizerByAttribute(SizerInStart):
    """Trade the same, with the sizer assigned to the property."""

    def start(self):
        self.sizer = bt.sizers.FixedSize(stake=0.03)


class SizerInNext(SizerInStart):
    """Change the sizer while trading."""

    def start(self):
        self.setsizer(bt.sizers.FixedSize(stake=0.01))

    def next(self):
        super().next()
        if len(self) == 200:
            self.setsizer(bt.sizers.FixedSize(stake=0.1))


class DefaultSizerSet(SizerInStart):
    """Set Backtrader's own default: one unit."""

    price = 3_000.0

    def start(self):
        self.setsizer(bt.sizers.FixedSize())


class OldStake(SizerInStart):
    """Set the stake of the default sizer the old way."""

    def start(self):
        self.sizer.setsizing(0.04)


class AllInOfBacktrader(SizerInStart):
    """Use Backtrader's own all-in sizer, which leaves a little for the fee."""

    def start(self):
        self.setsizer(bt.sizers.AllInSizer(percents=98))


class WholeUnits(SizerInStart):
    """Truncate sizes to whole units."""

    price = 300.0

    def start(self):
        self.setsizer(bt.sizers.PercentSizerInt(percents=90))


class OwnGetsizing(SizerInStart):
    """Override getsizing itself."""

    def getsizing(self, data=None, isbuy=True):
        return 0.02 if isbuy else self.position.size

    def start(self):
        """Set no sizer."""


class Risk(bt.Sizer):
    """Risk two per cent of the account, by the average true range of its strategy."""

    params = (("risk", 0.02),)

    def _getsizing(self, comminfo, cash, data, isbuy):
        held = self.broker.getposition(data).size
        if not isbuy and held:
            return held
        size = self.broker.getvalue() * self.p.risk / (3 * self.strategy.atr[0])
        return min(size, comminfo.getsize(data.close[0], 0.9 * cash))


class Rsi(CallLogger):
    """Trade mean reversion by the relative strength index, with a risk sizer."""

    def __init__(self):
        self.rsi, self.atr = bt.ind.RSI(period=14, safediv=True), bt.ind.ATR(period=14)
        self.setsizer(Risk())

    def next(self):
        if not self.position and self.rsi[0] < 35:
            self.buy()
        elif self.position and self.rsi[0] > 65:
            self.sell()


class Macd(CallLogger):
    """Go long and short by the sign of the MACD's histogram, with half the account."""

    short = True

    def __init__(self):
        self.macd = bt.ind.MACDHisto()

    def next(self):
        self.order_target_percent(target=0.5 if self.macd.histo[0] > 0 else -0.5)


class Bollinger(CallLogger):
    """Enter by a limit order at the lower band, renewed at each bar; exit by a limit order at the middle."""

    def __init__(self):
        self.band, self.order = bt.ind.BollingerBands(period=20, devfactor=1.5), None

    def notify_order(self, order):
        super().notify_order(order)
        if self.order is not None and order.ref == self.order.ref and not order.alive():
            self.order = None

    def next(self):
        if self.order is not None:
            self.cancel(self.order)
            self.order = None
        if not self.position:
            self.order = self.buy(exectype=bt.Order.Limit, price=self.band.bot[0], size=0.1)
        else:
            self.order = self.close(exectype=bt.Order.Limit, price=self.band.mid[0])


class Turtle(CallLogger):
    """Trade Donchian breakouts: up to four units, a stop two ranges away, exit at the ten-bar low."""

    short = True  # a stop sometimes outlives its position

    def __init__(self):
        self.high, self.low = bt.ind.Highest(self.data.high, period=20), bt.ind.Lowest(self.data.low, period=10)
        self.atr, self.units, self.at, self.stop_order = bt.ind.ATR(period=20), 0, math.nan, None

    def next(self):
        if not self.position:
            self.units = 0
            if self.data.close[0] >= self.high[-1]:
                self.enter()
        elif self.data.close[0] <= self.low[-1]:
            self.cancel(self.stop_order)
            self.close()
        elif self.units < 4 and self.data.close[0] > self.at + self.atr[0] / 2:
            self.cancel(self.stop_order)
            self.enter()

    def enter(self):
        size = 0.01 * self.broker.getvalue() / self.atr[0] / 4
        self.buy(size=size)
        self.units, self.at = self.units + 1, self.data.close[0]
        self.stop_order = self.sell(exectype=bt.Order.Stop, price=self.at - 2 * self.atr[0], size=self.position.size + size)


class Pyramid(CallLogger):
    """Buy more as the price falls, sell in thirds."""

    def __init__(self):
        self.mean = bt.ind.EMA(period=25)

    def next(self):
        gap = self.data.close[0] / self.mean[0] - 1
        if gap < -0.004 and self.broker.getcash() > 2_000:
            self.buy(size=0.02 * (1 + len(self) % 3))
        elif gap > 0.004 and self.position:
            self.sell(size=self.position.size / 3)


class Bracket(CallLogger):
    """Enter by a limit order with a stop and a target."""

    def __init__(self):
        self.mean, self.orders = bt.ind.SMA(period=15), []

    def notify_order(self, order):
        super().notify_order(order)
        if not order.alive():
            self.orders = [each for each in self.orders if each.ref != order.ref]

    def next(self):
        if self.orders or self.data.close[0] < self.mean[0]:
            return
        price = self.data.close[0] * 0.999
        self.orders = self.buy_bracket(
            size=0.1,
            price=price,
            limitprice=price * 1.01,
            stopprice=price * 0.99,
            valid=datetime.timedelta(hours=5),
            limitargs={"valid": None},
            stopargs={"valid": None},
            why="bracket",
        )


class MarketBracket(Bracket):
    """Enter by a market order with a trailing stop and a target."""

    def next(self):
        if not self.orders and self.data.close[0] > self.mean[0]:
            self.orders = self.buy_bracket(
                size=0.1,
                exectype=bt.Order.Market,
                limitprice=self.data.close[0] * 1.012,
                stopexec=bt.Order.StopTrail,
                stopargs={"trailpercent": 0.01},
            )


class ShortBracket(Bracket):
    """Do the same for shorts, without a target."""

    short = True

    def next(self):
        if not self.orders and not self.position and self.data.close[0] < self.mean[0]:
            price = self.data.close[0]
            self.orders = self.sell_bracket(size=0.1, price=price, limitprice=price * 0.99, stopprice=price * 1.01)


class HandMadeBracket(CallLogger):
    """Order a parent and children, transmitted with the last of them."""

    def next(self):
        if len(self) % 40 == 5:
            price = self.data.close[0]
            parent = self.buy(size=0.05, exectype=bt.Order.Limit, price=price * 0.998, transmit=False)
            self.sell(size=0.05, exectype=bt.Order.Stop, price=price * 0.985, parent=parent, transmit=False)
            self.sell(size=0.05, exectype=bt.Order.Limit, price=price * 1.01, parent=parent, transmit=True)
        if len(self) % 40 == 35:
            for order in self.broker.get_orders_open():
                self.cancel(order)


class Oco(CallLogger):
    """Place three exits, of which one cancels the others."""

    def next(self):
        if len(self) % 25 == 3 and not self.position and not self.broker.get_orders_open():
            self.buy(size=0.1)
        elif self.position and not self.broker.get_orders_open():
            price, size = self.position.price, self.position.size
            first = self.sell(size=size, exectype=bt.Order.Stop, price=price * 0.99)
            self.sell(size=size, exectype=bt.Order.Limit, price=price * 1.01, oco=first)
            self.sell(size=size, exectype=bt.Order.Close, valid=None, oco=first)


class StopTrailPercent(CallLogger):
    """Always enter, and exit by a trailing stop of one per cent."""

    def next(self):
        if not self.position:
            self.buy(size=0.1)
            self.sell(size=0.1, exectype=bt.Order.StopTrail, trailpercent=0.01)


class StopTrailAmount(CallLogger):
    """Go long and short by trailing stops of an amount, above and below a reference price."""

    short = True

    def next(self):
        if not self.position and not self.broker.get_orders_open():
            self.entry = self.buy(size=0.1, exectype=bt.Order.StopTrail, trailamount=150.0)
            self.sell(size=0.1, exectype=bt.Order.StopTrail, trailamount=150.0, oco=self.entry)
        elif self.position and not self.broker.get_orders_open():
            self.close(exectype=bt.Order.StopTrail, trailamount=100.0)


class StopTrailLimit(CallLogger):
    """Exit by a trailing stop that places a limit order."""

    def next(self):
        if not self.position and not self.broker.get_orders_open():
            self.buy(size=0.1)
        elif self.position and not self.broker.get_orders_open():
            price = self.data.close[0]
            self.sell(
                size=0.1,
                exectype=bt.Order.StopTrailLimit,
                price=price,
                plimit=price * 0.999,
                trailamount=120.0,
                valid=datetime.timedelta(days=2),
            )


class StopLimit(CallLogger):
    """Enter by a breakout with a highest price, exit by a stop with a lowest price."""

    def __init__(self):
        self.high, self.low = bt.ind.Highest(self.data.high, period=5), bt.ind.Lowest(self.data.low, period=5)

    def next(self):
        for order in self.broker.get_orders_open():
            self.cancel(order)
        if not self.position:
            self.buy(size=0.1, exectype=bt.Order.StopLimit, price=self.high[0], plimit=self.high[0] * 1.0005)
        else:
            self.sell(size=0.1, exectype=bt.Order.StopLimit, price=self.low[0], plimit=self.low[0] * 0.9998)


class StopEntry(CallLogger):
    """Enter by a stop above the market, exit by a stop below it."""

    def next(self):
        if self.broker.get_orders_open():
            return
        if not self.position:
            self.buy(size=0.1, exectype=bt.Order.Stop, price=self.data.high[0] * 1.001, valid=datetime.timedelta(hours=8))
        else:
            self.close(exectype=bt.Order.Stop, price=self.data.low[0] * 0.995)


class TargetValue(CallLogger):
    """Keep a position worth 5,000."""

    def next(self):
        if len(self) % 7 == 0:
            self.order_target_value(target=0.0 if len(self) % 49 == 0 else 5_000.0)


class TargetPercent(CallLogger):
    """Rebalance to a changing share, up to all of it, which the fee makes too much."""

    def next(self):
        if len(self) % 10 == 0:
            self.order_target_percent(target=(len(self) // 10 % 5) / 4)


class TargetSize(CallLogger):
    """Reverse from long to short and back."""

    short = True

    def next(self):
        if len(self) % 12 == 0:
            self.order_target_size(target=(-0.1, 0.0, 0.1, 0.2)[len(self) // 12 % 4])


class Timers(CallLogger):
    """Buy by the clock, sell by the weekday."""

    def __init__(self):
        self.add_timer(when=datetime.time(9, 0), why="morning")
        self.add_timer(when=bt.timer.SESSION_START, weekdays=[1, 3], weekcarry=True)
        self.add_timer(when=datetime.time(12, 0), repeat=datetime.timedelta(hours=4), monthdays=[5, 10, 15], monthcarry=True)

    def notify_timer(self, timer, when, *args, **kwargs):
        super().notify_timer(timer, when, *args, **kwargs)
        if kwargs:
            self.buy(size=0.01)
        elif self.position:
            self.close(size=self.position.size / 2)

    def next(self):
        """Do nothing: the timers trade."""


class ValidUntil(CallLogger):
    """Place orders that expire: by a date, after a time, at the end of the day, after bars as a float."""

    def next(self):
        kind = len(self) % 5
        until = (
            self.data.datetime.datetime(0) + datetime.timedelta(hours=3),
            datetime.timedelta(hours=6),
            bt.Order.DAY,
            0,
            bt.date2num(self.data.datetime.datetime(0) + datetime.timedelta(hours=4)),
        )[kind]
        if len(self.broker.get_orders_open()) < 6:
            if self.position:
                self.sell(size=0.005, exectype=bt.Order.Limit, price=self.data.close[0] * 1.004, valid=until)
            self.buy(size=0.01, exectype=bt.Order.Limit, price=self.data.close[0] * 0.995, valid=until)


class ManyAtOnce(CallLogger):
    """Place several orders at one bar, some of them too large."""

    short = True

    def next(self):
        if len(self) % 9 == 0:
            self.buy(size=0.05)
            self.sell(size=0.02)
            self.buy(size=0.01, exectype=bt.Order.Stop, price=self.data.close[0])
            self.close()
            self.buy(size=5.0)  # last: after a rejection, Backtrader also rejects closing orders, and flagbt does not


class CloseAndBuy(CallLogger):
    """Exit and enter again at the same open, with nearly all the cash."""

    def next(self):
        if len(self) % 6 == 0:
            if self.position:
                self.close()
            self.buy(size=0.95 * self.broker.getvalue() / self.data.close[0])


class MarketableLimit(CallLogger):
    """Place limit orders that the next open crosses, and some that it just misses."""

    def next(self):
        if self.broker.get_orders_open():
            return
        shift = (1.002, 1.0001, 0.9999, 0.998)[len(self) % 4]
        if not self.position:
            self.buy(size=0.1, exectype=bt.Order.Limit, price=self.data.close[0] * shift)
        else:
            self.close(exectype=bt.Order.Limit, price=self.data.close[0] / shift)


class Grid(CallLogger):
    """Place a ladder of limit orders on both sides."""

    def next(self):
        if len(self) % 24 == 1:
            for order in self.broker.get_orders_open():
                self.broker.cancel(order)
            for step in range(1, 6):
                self.buy(size=0.02, exectype=bt.Order.Limit, price=self.data.close[0] * (1 - 0.003 * step))
                if self.position.size > 0.02 * step:
                    self.sell(size=0.02, exectype=bt.Order.Limit, price=self.data.close[0] * (1 + 0.003 * step))


class NotifyDriven(CallLogger):
    """Order the exit when the entry is reported, and the next entry when the trade is."""

    def __init__(self):
        self.wait = 5

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy():
            price = order.executed.price
            self.out = self.sell(size=order.executed.size, exectype=bt.Order.Limit, price=price * 1.006)
            self.sell(size=order.executed.size, exectype=bt.Order.Stop, price=price * 0.995, oco=self.out)

    def notify_trade(self, trade):
        super().notify_trade(trade)
        if trade.isclosed:
            self.wait = 2 if trade.pnlcomm > 0 else 6

    def next(self):
        self.wait -= 1
        if not self.position and self.wait < 0 and not self.broker.get_orders_open():
            self.buy(size=0.1)


class Reverser(CallLogger):
    """Reverse by Backtrader's reversing sizer."""

    short = True

    def __init__(self):
        self.setsizer(bt.sizers.FixedReverser(stake=0.05))
        self.momentum = bt.ind.Momentum(period=12)

    def next(self):
        if self.momentum[0] > 0 and self.position.size <= 0:
            self.buy()
        elif self.momentum[0] < 0 and self.position.size >= 0:
            self.sell()


class AtClose(CallLogger):
    """Order for the session's close."""

    def next(self):
        if len(self) % 30 == 4:
            self.buy(size=0.05, exectype=bt.Order.Close)
        if len(self) % 30 == 25 and self.position:
            self.close(exectype=bt.Order.Close)


class BySignals(bt.SignalStrategy, CallLogger):
    """Use Backtrader's strategy of signals."""

    short = True

    def __init__(self):
        self.setsizer(bt.sizers.FixedSize(stake=0.05))
        self.signal_add(bt.SIGNAL_LONGSHORT, bt.ind.CrossOver(bt.ind.EMA(period=8), bt.ind.EMA(period=21)))


class HeikinAshi(CallLogger):
    """Compute an indicator that makes Backtrader run bar by bar."""

    def __init__(self):
        self.heikin = bt.ind.HeikinAshi(self.data)

    def next(self):
        up = self.heikin.ha_close[0] > self.heikin.ha_open[0]
        if up and not self.position:
            self.buy(size=0.1)
        elif not up and self.position:
            self.close()


class InTheWarmUp(CallLogger):
    """Trade before the indicators are ready, and differently at the first bar after."""

    def __init__(self):
        self.mean = bt.ind.SMA(period=50)

    def prenext(self):
        super().prenext()
        if len(self) % 10 == 1:
            self.buy(size=0.01)

    def nextstart(self):
        self.note("nextstart", self.mean[0])
        self.close()

    def next(self):
        if len(self) % 20 == 0:
            self.buy(size=0.02)


class TradeIds(CallLogger):
    """Keep two books in one position, one of them possibly short."""

    short = True

    def next(self):
        book = len(self) // 8 % 2
        if len(self) % 8 == 0:
            self.buy(size=0.03, tradeid=book, why=f"book {book}")
        elif len(self) % 8 == 5:
            self.sell(size=0.03, tradeid=book)


class TooLarge(CallLogger):
    """Place orders that the cash cannot pay, and log their notifications."""

    fewest = 0

    def next(self):
        if len(self) % 15 == 0:
            self.buy(size=3 * self.broker.getvalue() / self.data.close[0])
        elif len(self) % 15 == 5:
            self.buy(size=self.broker.getcash() / self.data.close[0])


class NotChecked(TooLarge):
    """Do the same, without Backtrader's check before the fill."""

    def start(self):
        self.broker.set_checksubmit(False)


class WithObservers(CallLogger):
    """Read the standard observers, the length of the lines, dates and the environment."""

    def __init__(self):
        self.mean = bt.ind.WMA(self.data.typical if hasattr(self.data, "typical") else self.data, period=7)

    def next(self):
        if len(self) % 11 == 0:
            self.buy(size=0.01)
        if len(self) % 33 == 0:
            self.close()
        self.note(
            "seen",
            len(self.data),
            self.data.buflen(),
            self.datetime.datetime(0),
            self.data.datetime.date(0),
            self.mean[0],
            self.data.volume[0],
            self.data.openinterest[0],
            self.data.high[-1],
            len(self.data.close.get(size=5)),
            self.data._timeframe,
            self.data._compression,
            len(self.stats.broker),
            self.stats.broker.value[-1],
            self.stats.broker.cash[-1],
            len(self.stats.trades),
            self.env is self.cerebro,
            self.broker.startingcash,
            self.p._getkwargs(),
            len(self.datas),
            len(self.stats.buysell),
            self.broker.getcommissioninfo(self.data).getcommission(1.0, 100.0),
            self.broker.get_leverage(),
        )


class WithAnalyzers(CallLogger):
    """Add analyzers and an observer, and read them at the end."""

    def __init__(self):
        for analyzer in (bt.analyzers.TradeAnalyzer, bt.analyzers.DrawDown, bt.analyzers.TimeReturn, bt.analyzers.SQN):
            self.cerebro.addanalyzer(analyzer, _name=analyzer.__name__)
        self.cerebro.addobserver(bt.observers.DrawDown)

    def next(self):
        if len(self) % 13 == 0:
            self.buy(size=0.05)
        elif len(self) % 13 == 6 and self.position:
            self.close()

    def stop(self):
        for name in ("TradeAnalyzer", "DrawDown", "TimeReturn", "SQN"):
            self.note(name, str(dict(self.analyzers.getbyname(name).get_analysis())))
        self.note("observed", self.stats.drawdown.maxdrawdown[0])
        super().stop()


class ManyIndicators(CallLogger):
    """Trade long and short by a vote of many indicators."""

    short = True

    def __init__(self):
        self.votes = [
            bt.ind.Stochastic(safediv=True).percK - 50,
            bt.ind.CCI(),
            bt.ind.ADX(period=10) - 20,
            bt.ind.WilliamsR() + 50,
            bt.ind.PSAR() - self.data.close,
            bt.ind.TRIX(period=6),
            bt.ind.AroonOscillator(),
            bt.ind.HMA(period=12) - self.data.close,
            bt.ind.Ichimoku().tenkan_sen - self.data.close,
            bt.ind.ROC(period=6),
            bt.ind.UltimateOscillator() - 50,
            self.data.close - bt.ind.KAMA(period=10),
        ]

    def next(self):
        vote = sum(1 if line[0] > 0 else -1 for line in self.votes)
        self.note("vote", vote, *(line[0] for line in self.votes))
        self.order_target_percent(target=0.05 * vote)


class BuyAndHold(CallLogger):
    """Buy once with nearly all the cash."""

    fewest = 1

    def next(self):
        if not self.position:
            self.buy(size=0.97 * self.broker.getcash() / self.data.close[0])


class Martingale(CallLogger):
    """Double the size after a loss."""

    def __init__(self):
        self.stake = 0.01

    def notify_trade(self, trade):
        super().notify_trade(trade)
        if trade.isclosed:
            self.stake = 0.01 if trade.pnl > 0 else min(2 * self.stake, 0.2)

    def next(self):
        if not self.position:
            self.buy(size=self.stake)
        elif len(self) - self.bought >= 4:
            self.close()

    def notify_order(self, order):
        super().notify_order(order)
        if order.status == order.Completed and order.isbuy():
            self.bought = len(self)


class RandomOrders(CallLogger):
    """Place random orders of all types, too small to reach a cash or short limit."""

    short = True
    seed = 0

    def __init__(self):
        self.random, self.alive = random.Random(self.seed), []

    def notify_order(self, order):
        super().notify_order(order)
        self.alive = [each for each in self.alive if each.alive()]

    def next(self):
        draw = self.random
        for _ in range(draw.choice((0, 0, 1, 1, 2, 3))):
            self.alive += [order for order in self.give(draw) if order is not None]
        if self.alive and draw.random() < 0.2:
            self.cancel(draw.choice(self.alive))

    def give(self, draw):
        """Place one order, or a bracket."""
        if draw.random() < 0.1:
            return [self.close(exectype=draw.choice((None, bt.Order.Limit, bt.Order.Close)), price=self.data.close[0])]
        if draw.random() < 0.1:
            return [self.order_target_percent(target=draw.uniform(-0.3, 0.3))]
        give, side = draw.choice(((self.buy, 1), (self.sell, -1)))
        size, price = draw.choice((30, 150, 300)) / self.price, self.data.close[0] * draw.uniform(0.99, 1.01)
        valid = draw.choice((None, None, datetime.timedelta(hours=draw.randrange(1, 12)), bt.Order.DAY))
        if draw.random() < 0.15:
            bracket = self.buy_bracket if side > 0 else self.sell_bracket
            ways_out = {"limitprice": price * (1 + side * 0.008), "stopprice": price * (1 - side * 0.008)}
            return bracket(
                size=size, price=price, exectype=draw.choice((bt.Order.Market, bt.Order.Limit, bt.Order.Stop)), **ways_out
            )
        kind = draw.choice(
            (
                bt.Order.Market,
                bt.Order.Close,
                bt.Order.Limit,
                bt.Order.Stop,
                bt.Order.StopLimit,
                bt.Order.StopTrail,
                bt.Order.StopTrailLimit,
            )
        )
        more = {"tradeid": draw.choice((0, 0, 1)), "valid": valid}
        if kind not in (bt.Order.Market, bt.Order.Close):
            more["price"] = price
        if kind in (bt.Order.StopLimit, bt.Order.StopTrailLimit):
            more["plimit"] = price * draw.uniform(0.998, 1.002)
        if kind in (bt.Order.StopTrail, bt.Order.StopTrailLimit):
            more[draw.choice(("trailamount", "trailpercent"))] = 0.004
            more["trailamount"] = more.get("trailamount") and price * 0.004
        if self.alive and draw.random() < 0.2:
            more["oco"] = draw.choice(self.alive)
        return [give(size=size, exectype=kind, **more)]


STRATEGIES = [
    each
    for each in list(globals().values())
    if isinstance(each, type)
    and issubclass(each, CallLogger)
    and each not in (CallLogger, RandomOrders)
    and each.__module__ == __name__
]
