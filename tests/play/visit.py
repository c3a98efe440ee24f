"""A visit to the playground: what somebody sees and does there."""

from collections.abc import Callable
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait


NATURAL = """
const image = document.querySelector(arguments[0]);
return image && image.complete ? [image.naturalWidth, image.naturalHeight] : null
"""
COPIED = """
const done = arguments[0];
navigator.clipboard.readText().then(done, error => done(String(error)));
"""


class Visit:
    """A freshly opened page."""

    def __init__(self, driver: Any, url: str):
        self.driver = driver
        driver.get(url)
        self.wait(lambda: self.find("#draw") and self.find("#a-cfg-weight input[type=range]"))

    def wait(self, true: Callable[[], Any], seconds: float = 60) -> Any:
        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: true())

    def find(self, css: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return self.driver.execute_script("return document.querySelector(arguments[0])?.textContent.trim() ?? ''", css)

    def click(self, css: str) -> None:
        (element, *_) = self.wait(lambda: self.find(css))
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def draw(self) -> str:
        """Press Draw, and return what the page says at the end."""
        self.driver.execute_script("document.querySelector('#status span')?.remove()")
        self.click("#draw")
        return self.finished()

    def finished(self) -> str:
        self.wait(lambda: self.text("#status span") == "done" or self.find("#status .failed"))
        said = self.text("#status span")
        if said == "done":
            self.wait(lambda: all(self.natural(f"image-{name}") for name in "ab") and self.natural("plot"))
        return said

    def press(self, name: str, key: str, times: int = 1) -> None:
        """Move a slider by the keyboard."""
        (slider,) = self.find(f"#{name} input[type=range]")
        slider.send_keys(getattr(Keys, key) * times)

    def type(self, name: str, text: str) -> None:
        """Write in a field, in place of what is there."""
        (element,) = self.find(f"#{name} textarea, #{name} input")
        element.clear()
        element.send_keys(text)

    def choose(self, name: str, option: str) -> None:
        self.click(f"#{name} input")
        for element in self.wait(lambda: self.find("ul.options li, [role=option]")):
            if element.text.strip().endswith(option):
                element.click()
                break
        else:
            raise AssertionError(f"no option {option}")
        self.driver.execute_script("document.activeElement.blur()")
        self.wait(lambda: self.find(f"[id^={name[-1]}-{option}-]"))

    def shown(self, name: str) -> bool:
        return any(element.is_displayed() for element in self.find(f"#{name}"))

    def source(self, name: str) -> str:
        return self.driver.execute_script("return document.querySelector(arguments[0]).src", f"#{name} img")

    def natural(self, name: str) -> list[int] | None:
        """Width and height of an image in its own pixels, once it is there."""
        return self.driver.execute_script(NATURAL, f"#{name} img")

    def copied(self, name: str) -> str:
        """What is in the clipboard after the button for it was pressed."""
        origin = "/".join(self.driver.current_url.split("/")[:3])
        given = {"origin": origin, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        self.driver.execute_cdp_cmd("Browser.grantPermissions", given)
        self.driver.execute_script("return navigator.clipboard.writeText('')")
        self.click(f"{name} button[aria-label*='opy'], {name} button[title*='opy']")
        return self.wait(lambda: self.driver.execute_async_script(COPIED))

    def hosts(self) -> set[str]:
        """Every host that anything was fetched from."""
        names = self.driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        return {name.split("/")[2] for name in names if name.startswith("http")}
