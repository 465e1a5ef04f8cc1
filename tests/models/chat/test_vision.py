"""What models say about a red square: who sees, who is blind, and who is to be doubted."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from gems.models.chat.vision import read_sight, vision_question

SEES = (
    *("Red", "red.", "The big square is red.", "**Red**", '{"answer": "red"}', "I see a red square on white.", "RED!"),
    *("Reddish", "红色", "紅色。", "赤", "빨간색", "rojo", "Rouge.", "Rot", "vermelho", "rosso", "красный", "Crimson"),
    *("I can't see anything but a red square.", "It is not blue but red."),
)
BLIND = (
    "I can't view images.",
    "I can’t see any images, but I can help you with text.",
    "I cannot see images.",
    "I'm sorry, but I am unable to view or analyze pictures directly.",
    "I don't have the ability to see images.",
    "I do not have access to visual content, including pictures.",
    "I don't see an image in your message. Could you upload it?",
    "There is no image attached.",
    "No image was provided.",
    "It looks like no picture has been included.",
    "The image was not provided, so I cannot determine the colour.",
    "Please provide the image so that I can answer.",
    "Please upload the picture you would like me to look at.",
    "As a text-based AI, I cannot determine the colour.",
    "I'm a text-only model.",
    "I am not able to see.",
    "As an AI language model, I can't process images. If the square is red, the answer is red.",
    "I lack the ability to interpret images.",
    "I couldn't open the attachment.",
    "我无法查看图片。",
    "抱歉，我看不到您提到的图像。",
    "您没有上传图片。",
    "申し訳ありませんが、画像を見ることができません。",
    "画像が添付されていません。",
    "이미지를 볼 수 없습니다.",
    "No puedo ver imágenes.",
    "Je ne peux pas voir les images.",
    "Ich kann keine Bilder sehen.",
    "Ich kann das Bild leider nicht sehen.",
    "Não consigo ver imagens.",
    "Non posso vedere le immagini.",
    "Я не могу видеть изображения.",
)
DOUBTFUL = ("Blue", "The square is black.", "Yes", "No.", "Unknown", '{"answers": []}', "A picture of a cat.", "4")


@pytest.mark.parametrize("said", SEES)
def test_the_colour_is_proof(said: str) -> None:
    assert read_sight(said) == "sees"


@pytest.mark.parametrize("said", BLIND)
def test_blindness_in_words(said: str) -> None:
    assert read_sight(said) == "blind"


@pytest.mark.parametrize("said", DOUBTFUL)
def test_anything_else_is_doubtful(said: str) -> None:
    assert read_sight(said) == "doubtful"


def test_the_picture_is_small_and_stands_before_the_words() -> None:
    picture, words = vision_question().parts
    assert isinstance(words, str)
    with Image.open(io.BytesIO(vision_question().pictures[0].data)) as shown:
        assert shown.size == (224, 224)
    assert len(vision_question().pictures[0].data) < 2_000
    assert vision_question(attempt=1).parts == (picture, words)
