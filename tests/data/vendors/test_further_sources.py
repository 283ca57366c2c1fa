"""Sources whose names of columns differ, rebuilt from generated bars as real files of them are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vendor_files import AAPL, BTC, EURUSD, epochs, objects, prices, quote, same, table, texts

from flagbt.data.bars import Bars
from flagbt.data.check import check_table
from flagbt.data.formats.table import Faults
from flagbt.data.readers import read_bars, read_strictly, read_table
from flagbt.data.reading import Reading
from flagbt.errors import DataError

DAYS, DATE = texts(AAPL, "%Y%m%d"), texts(AAPL, "%Y-%m-%d")
CANDLE = objects("time open high low close volumefrom volumeto", epochs(BTC, "s"), *prices(BTC), quote(BTC))
CHART = objects(
    "date high low open close volume quoteVolume weightedAverage",
    *(epochs(BTC, "s"), *prices(BTC, "hloc"), quote(BTC), *prices(BTC, "v"), *prices(BTC, "c")),
)
OPTION = objects(
    "id from at to open close min max volume",
    *(range(60), epochs(EURUSD, "s"), epochs(EURUSD, "ns"), epochs(EURUSD, "s"), *prices(EURUSD, "oclhv")),
)
FILES = {
    "metastock.txt": (
        table("<ticker>,<date>,<open>,<high>,<low>,<close>,<vol>", same(AAPL, "AAPL"), DAYS, *prices(AAPL)),
        AAPL,
    ),
    "finam.txt": (
        table(
            "<TICKER>;<PER>;<DATE>;<TIME>;<OPEN>;<HIGH>;<LOW>;<CLOSE>;<VOL>",
            *(same(EURUSD, "EURUSD"), same(EURUSD, 60), texts(EURUSD, "%Y%m%d"), texts(EURUSD, "%H%M%S"), *prices(EURUSD)),
            separator=";",
        ),
        EURUSD,
    ),
    "finam-without-ticker.csv": (
        table(
            "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>",
            *(texts(EURUSD, "%Y%m%d"), texts(EURUSD, "%H%M%S"), *prices(EURUSD)),
        ),
        EURUSD,
    ),
    "tushare.csv": (
        table(
            "ts_code,trade_date,open,high,low,close,pre_close,vol,amount",
            *(same(AAPL, "600519.SH"), DAYS, *prices(AAPL, "ohlc"), *prices(AAPL, "o"), *prices(AAPL, "v"), quote(AAPL)),
            newest_first=True,
        ),
        AAPL,
    ),
    "barchart.csv": (
        table(
            "Time,Open,High,Low,Last,Change,Volume",
            *(texts(AAPL, "%m/%d/%Y"), *prices(AAPL, "ohlc"), same(AAPL, "-0.1"), *prices(AAPL, "v")),
            newest_first=True,
        ),
        AAPL,
    ),
    "moex.csv": (
        table(
            "candles\n\nopen;close;high;low;value;volume;begin;end",
            *(*prices(BTC, "ochl"), quote(BTC), *prices(BTC, "v")),
            *(texts(BTC, "%Y-%m-%d %H:%M:%S", 3), texts(BTC, "%Y-%m-%d %H:59:59", 3)),
            separator=";",
        ),
        BTC,
    ),
    "akshare.csv": (
        table("日期,股票代码,开盘,收盘,最高,最低,成交量", DATE, same(AAPL, "000001"), *prices(AAPL, "ochlv")),
        AAPL,
    ),
    "japanese.csv": (table("日付,始値,高値,安値,終値,出来高", texts(AAPL, "%Y/%m/%d"), *prices(AAPL)), AAPL),
    "cryptocompare.json": (json.dumps({"Response": "Success", "Data": {"Data": CANDLE}}), BTC),
    "poloniex.json": (json.dumps(CHART), BTC),
    "iq-option.json": (json.dumps(OPTION), EURUSD),
    "backtrader-unnamed-clock.txt": (
        table(
            "Date,Open,High,Low,Close,Volume,OpenInterest",
            *(texts(EURUSD, "%Y-%m-%d"), texts(EURUSD, "%H:%M:%S"), *prices(EURUSD), same(EURUSD, 0)),
        ),
        EURUSD,
    ),
    "ninjatrader.txt": (table("", texts(EURUSD, "%Y%m%d %H%M%S"), *prices(EURUSD), separator=";"), EURUSD),
}


def put(folder: Path, name: str, content: str) -> Path:
    """Write a file."""
    path = folder / name
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_read_as_its_bars(tmp_path: Path, name: str) -> None:
    """A real file of this source would be refused, or read as other bars (NinjaTrader's in HistData's time zone)."""
    content, bars = FILES[name]
    assert read_bars(put(tmp_path, name, content)).digest == bars.digest


def test_a_column_of_the_usual_name_is_read_before_another_source_s(tmp_path: Path) -> None:
    """A table of quotes with both ``close`` and ``last`` would be read by its last trades."""
    head = "Time,Open,High,Low,Close,Last,Change,Volume"
    content = table(head, DATE, *prices(AAPL, "ohlc"), *prices(AAPL, "o"), same(AAPL, 1), *prices(AAPL, "v"))
    assert read_bars(put(tmp_path, "quotes.csv", content)).digest == AAPL.digest


@pytest.mark.parametrize("cell", ["{:,.2f}", "${:.2f}"])
def test_rows_of_written_out_dates_and_large_numbers_are_no_second_header(tmp_path: Path, cell: str) -> None:
    """NSE's rows (04-Jan-2024, "2,590.00") would be taken for a header's line of tickers, and 13 markets found."""
    columns = [[f'"{cell.format(1000 * value)}"' for value in getattr(AAPL, name)] for name in ("open", "high", "low", "close")]
    volume = [f'"{value:,.0f}"' for value in AAPL.volume]
    content = table(
        '"Date ","series ","OPEN ","HIGH ","LOW ","close ","VOLUME "',
        texts(AAPL, "%d-%b-%Y"),
        same(AAPL, "EQ"),
        *columns,
        volume,
    )
    path = put(tmp_path, "nse.csv", content)
    if "$" in cell:
        with pytest.raises(DataError, match=r"column 'OPEN'.*without units or currency signs"):
            read_bars(path)
    else:
        assert len(read_bars(path)) == len(AAPL)


def test_all_missing_columns_are_stated_at_once(tmp_path: Path) -> None:
    """The remedy would name one column of five, and each try would end in the next refusal."""
    head = "Start Date,Open Price,High Price,Low Price,Close Price,Volume"
    path = put(tmp_path, "titles.csv", table(head, DATE, *prices(AAPL)))
    stated = "time=start date,open=open price,high=high price,low=low price,close=close price"
    with pytest.raises(DataError) as refused:
        read_bars(path)
    assert f"state the columns: columns='{stated}'." in str(refused.value)
    assert _digest(path, Reading(columns=stated)) == AAPL.digest


def test_a_table_without_volumes_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    """The remedy would be an option that no file without volumes can satisfy."""
    path = put(tmp_path, "bars.json", json.dumps(objects("date open high low close", DATE, *prices(AAPL, "ohlc"))))
    with pytest.raises(DataError, match=r"columns='volume=NAME'\. A table without volumes needs a column 'volume' of 0\.$"):
        read_bars(path)


def test_objects_within_rows_are_refused_as_such(tmp_path: Path) -> None:
    """Oanda's candles would be called an empty answer, to be fetched again for other times."""
    mid = [{"o": "1.09", "h": "1.1", "l": "1.08", "c": "1.09"}]
    candles = objects("time mid volume", texts(EURUSD, "%Y-%m-%dT%H:%M:%SZ"), mid * len(EURUSD), *prices(EURUSD, "v"))
    path = put(tmp_path, "oanda.json", json.dumps({"instrument": "EUR_USD", "candles": candles}))
    with pytest.raises(DataError, match=r"objects within objects, such as 'candles\.0\.mid\.o'\. Write each bar as one object"):
        read_bars(path)


@pytest.mark.parametrize("name", ["6. Time Zone", "exchange_timezone"])
def test_a_zone_that_an_answer_names_is_noted_until_it_is_stated(tmp_path: Path, name: str) -> None:
    """Alpha Vantage's and Twelve Data's local times would be read as UTC without a word."""
    rows = objects("datetime open high low close volume", texts(EURUSD, "%Y-%m-%d %H:%M:%S", -5), *prices(EURUSD))
    path = put(tmp_path, "answer.json", json.dumps({"meta": {name: "America/New_York"}, "values": rows}))
    notes = read_table(path, Faults(strict=True, name=path.name)).notes
    assert any("names the time zone America/New_York" in note for note in notes)
    stated = Reading(time_zone="America/New_York")
    assert _digest(path, stated) == EURUSD.digest
    assert not any("time zone" in note for note in read_table(path, Faults(strict=True, name=path.name), stated).notes)


def _digest(path: Path, reading: Reading) -> str:
    bars: Bars = read_strictly(path, reading)[1]
    return bars.digest


@pytest.mark.parametrize(
    ("form", "formats"),
    [
        ("%d/%m/%y %H%M%S", ["%d/%m/%y %H%M%S", "%m/%d/%y %H%M%S", "%y/%m/%d %H%M%S"]),
        ("%d-%b-%y %H:%M", ["%d-%b-%y %H:%M", "%y-%b-%d %H:%M"]),
    ],
)
def test_a_year_of_two_digits_is_refused_with_each_format_that_it_may_have(
    tmp_path: Path, form: str, formats: list[str]
) -> None:
    """The example in the remedy would not be a form of the column, and the next try would be refused too."""
    path = put(tmp_path, "short.csv", table("date,open,high,low,close,volume", texts(EURUSD, form), *prices(EURUSD)))
    with pytest.raises(DataError, match="A year of two digits is ambiguous") as refused:
        read_bars(path)
    assert str(refused.value).endswith("the column, " + " or ".join(f"time_format='{each}'" for each in formats) + ".")
    assert _digest(path, Reading(time_format=form)) == EURUSD.digest


def test_part_of_the_volume_is_not_offered_as_the_volume(tmp_path: Path) -> None:
    """NSE's deliverable volume is about half of that traded, and would be read in its place."""
    head = "Date,Open Price,High Price,Low Price,Close Price,Prev Close Price,Total Traded Quantity,Deliverable Volume"
    columns = (*prices(AAPL, "ohlc"), *prices(AAPL, "o"), *prices(AAPL, "v"), same(AAPL, 5))
    with pytest.raises(DataError, match=r",close=close price,volume=total traded quantity'\.$"):
        read_bars(put(tmp_path, "nse.csv", table(head, DATE, *columns)))


def test_tokens_one_after_the_other_are_two_markets(tmp_path: Path) -> None:
    """CoinGecko's ``token_id`` would not be seen, and a coin's price would fall to that of another."""
    head = "token_id,timestamp,open,high,low,close,volume"
    content = table(head, ["bitcoin"] * 30 + ["ether"] * 30, DATE, *prices(AAPL))
    with pytest.raises(DataError, match="2 markets, 'bitcoin', 'ether'"):
        read_bars(put(tmp_path, "tokens.csv", content))


@pytest.mark.parametrize("head", ["Date and Time,Price,Volume", "symbol,date,value,close"])
def test_one_price_for_each_time_is_no_bar(tmp_path: Path, head: str) -> None:
    """Ticks would be refused for a lacking name of a column, and the user would search for it."""
    with pytest.raises(
        DataError, match=r"with one price for each time \('(price|close)'\)\. Fetch bars, or aggregate these prices"
    ):
        read_bars(put(tmp_path, "ticks.csv", f"{head}\n" + "2024-01-02 08:00:00,1200,1,5\n" * 3))


@pytest.mark.parametrize("cell", ["0", "NaN"])
def test_days_without_prices_are_called_so(tmp_path: Path, cell: str) -> None:
    """Weekends written as zeros would be impossible prices that jump by a factor of 1."""
    lines = table("date,open,high,low,close,volume", DATE, *prices(AAPL)).splitlines()
    lines = [f"{line[:10]}{f',{cell}' * 4},0" if at % 7 == 5 else line for at, line in enumerate(lines)]
    result = check_table(put(tmp_path, "krx.csv", "\n".join(lines)))
    of_kind = {problem.kind: problem for problem in result.problems}
    assert of_kind["impossible"].message.startswith("rows have no prices (all 0 or NaN)")
    assert [outcome.fix for outcome in of_kind["impossible"].offered] == ["drop-impossible"]
    assert "jumps" not in of_kind


def test_each_row_with_a_year_of_two_digits_has_the_same_fault(tmp_path: Path) -> None:
    """Days of one and of two digits would count as different faults, and the form of the whole file would not be seen."""
    days = [day.lstrip("0") for day in texts(AAPL, "%d-%b-%y")]
    result = check_table(put(tmp_path, "days.csv", table("date,open,high,low,close,volume", days, *prices(AAPL))))
    explanation = result.problems[0].explanation
    assert explanation is not None
    assert explanation.evidence.startswith(f"{len(days)} of {len(days)} rows")
