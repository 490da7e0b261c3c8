"""The page as a person uses it, in headless Chromium."""

import shutil

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    None in (CHROMIUM, DRIVER), reason="no chromium and chromedriver here (Debian: apt-get install chromium-driver)"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_argument("--window-size=1200,1000")
    driver = webdriver.Chrome(options, Service(DRIVER))
    yield driver
    driver.quit()


def cards(browser, count: int) -> list:
    """Wait for this many cards, the newest first."""
    WebDriverWait(browser, 60).until(lambda each: len(each.find_elements(By.CLASS_NAME, "card")) == count)
    return browser.find_elements(By.CLASS_NAME, "card")


def test_chosen_and_dropped_images_get_cards(browser, page, photo, tmp_path):
    photo.resize((300, 200)).save(tmp_path / "owl <b>.png")
    Image.new("RGB", (301, 300)).save(tmp_path / "wide.png")
    browser.get(page)
    WebDriverWait(browser, 60).until(lambda each: each.find_elements(By.CSS_SELECTOR, "body[data-ready]"))
    assert "ridge regression on csv (scores of 0 to 100, higher is better" in browser.find_element(By.ID, "about").text
    assert "up to 2 at a time" in browser.find_element(By.ID, "limits").text

    browser.find_element(By.ID, "files").send_keys(f"{tmp_path / 'owl <b>.png'}\n{tmp_path / 'wide.png'}")
    wide, owl = cards(browser, 2)
    assert "owl <b>.png" in owl.text
    assert "300 × 200 pixels" in owl.text
    assert owl.find_element(By.CLASS_NAME, "number").text.split()[1] == "%"
    assert "on the scale of csv" in owl.text
    assert len(owl.find_elements(By.CLASS_NAME, "crop")) == 5
    assert len(owl.find_elements(By.TAG_NAME, "tr")) == 5
    assert "at most 90,000 pixels, got 301 × 300" in wide.text

    drop(browser, {"broken.png": "no image"})
    assert "could not decode 8 bytes" in cards(browser, 3)[0].text
    drop(browser, {f"{k}.png": "no image" for k in range(3)})
    assert any("1 of 3 images" in card.text and "at most 2" in card.text for card in cards(browser, 6))
    drop(browser, {"long.png": "x" * 200_001})
    assert "200,001 bytes" in cards(browser, 7)[0].text
    assert not [each for each in browser.get_log("browser") if "status of 4" not in each["message"]]


def test_the_crops_can_be_hidden(browser, page, photo, tmp_path):
    photo.resize((300, 200)).save(tmp_path / "owl.png")
    browser.get(page)
    WebDriverWait(browser, 60).until(lambda each: each.find_elements(By.CSS_SELECTOR, "body[data-ready]"))
    browser.find_element(By.ID, "files").send_keys(str(tmp_path / "owl.png"))
    (card,) = cards(browser, 1)
    crop = card.find_element(By.CLASS_NAME, "crop")
    assert crop.value_of_css_property("opacity") == "1"
    card.find_element(By.CSS_SELECTOR, ".switch input").click()
    WebDriverWait(browser, 10).until(lambda _: crop.value_of_css_property("opacity") == "0")


def drop(browser, files: dict[str, str]) -> None:
    """Drop files on the page: a name and a content each."""
    browser.execute_script(
        """
        const transfer = new DataTransfer();
        for (const [name, content] of Object.entries(arguments[0])) transfer.items.add(new File([content], name));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        """,
        files,
    )
