from contextlib import contextmanager

import gradio as gr


@contextmanager
def InputAccordion(value, label, elem_id):
    """An accordion with its checkbox inside, in place of the WebUI's, in which it follows whether it is open."""
    with gr.Accordion(label, open=value, elem_id=elem_id):
        yield gr.Checkbox(value, label=label, elem_id=f"{elem_id}-checkbox")
